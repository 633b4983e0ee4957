"""YAML is read as data."""

from pathlib import Path

import mmengine
import pytest
import yaml
from mmengine.config import Config

from scopevit.engine.config import load_config
from scopevit.errors import InputError

CODE = 'a: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["{}"]]\n'


def test_data_is_read(tmp_path: Path) -> None:
    (tmp_path / 'a.yaml').write_text('a: [1, 2.5, text]\nb: {c: null}\n')
    assert mmengine.load(tmp_path / 'a.yaml') == {'a': [1, 2.5, 'text'], 'b': {'c': None}}


def test_what_mmengine_writes_is_read(tmp_path: Path) -> None:
    content = dict(scale=(1333, 800), sizes=[(1, 2), [3, (4,)]])
    Config(content).dump(tmp_path / 'a.yaml')
    assert '!!python/tuple' in (tmp_path / 'a.yaml').read_text()
    assert load_config(tmp_path / 'a.yaml').to_dict() == content | {'work_dir': 'work_dirs/a'}


def test_tags_run_nothing(tmp_path: Path) -> None:
    touched = tmp_path / 'touched'
    (tmp_path / 'a.yaml').write_text(CODE.format(touched))
    with pytest.raises(yaml.YAMLError):
        mmengine.load(tmp_path / 'a.yaml')
    (tmp_path / 'b.yaml').write_text('_base_: a.yaml\n')
    for name in ('a.yaml', 'b.yaml'):
        with pytest.raises(InputError, match='could not determine a constructor for the tag'):
            load_config(tmp_path / name)
    assert not touched.exists()
