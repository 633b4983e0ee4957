"""Pickles and types that options name."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine
import pytest
from mmengine.config import Config
from tasks import Task

from scopevit.engine.trust import check_pickles, check_types, reading_pickles
from scopevit.errors import InputError


@pytest.mark.parametrize(
    ('dataset', 'key'),
    [
        (dict(proposal_file='a.pkl'), 'dataset.proposal_file'),
        (dict(datasets=[dict(ann_file='a.pickle')]), 'datasets.0.ann_file'),
        (dict(split_file='refs(unc).p'), 'split_file'),
        (dict(pipeline=[dict(type='A', x='b/a.pkl')]), 'pipeline.0.x'),
    ],
)
def test_pickles_that_would_be_read(dataset: dict, key: str) -> None:
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), val_dataloader=None))
    check_pickles(cfg, 'val', 'test')
    with pytest.raises(InputError, match=rf'{key}\) is a pickle, .* --trust-pickles'):
        check_pickles(cfg, 'train')


def test_no_pickle_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    path.write_bytes(pickle.dumps({'a': 1}))
    with reading_pickles(trusted=False), pytest.raises(InputError, match='is a pickle, which may'):
        mmengine.load(path, file_format='pkl')
    with reading_pickles(trusted=True):
        assert mmengine.load(path, file_format='pkl') == {'a': 1}
    assert mmengine.load(path, file_format='pkl') == {'a': 1}


@pytest.mark.parametrize(
    ('options', 'is_good'),
    [
        ({'model.backbone.type': 'ScopeViT'}, True),
        ({'model.backbone.type': 'mmdet.ResNet'}, True),
        ({'model.backbone': dict(type='mine.Net')}, True),
        ({'model.backbone.type': 'subprocess.Popen'}, False),
        ({'model.backbone.type': 'mmengine.fileio.load'}, False),  # which reads pickles
        ({'model.backbone': dict(type='os.system')}, False),
        ({'train_dataloader.dataset.pipeline': [dict(type='A'), dict(type='os.system')]}, False),
        ({'optim_wrapper.constructor': 'subprocess.Popen'}, False),
        ({'custom_hooks': [dict(type='EMAHook', ema_type='os.system')]}, False),
        ({'model.backbone.init_cfg.checkpoint': 'os.system'}, True),  # no type
    ],
)
def test_types_of_options(options: dict[str, Any], is_good: bool) -> None:
    cfg = Config(dict(custom_imports=dict(imports=['scopevit', 'mine'])))
    if is_good:
        check_types(options, cfg)
        return
    with pytest.raises(InputError, match='is no type of mmengine, mmpretrain'):
        check_types(options, cfg)


def test_tools_refuse(fails: Callable[..., str], make_task: Callable[[str], Task]) -> None:
    task = make_task('detection')
    line = fails('train', task.config, '--cfg-options', 'model.backbone.type=subprocess.Popen')
    assert 'model.backbone.type: subprocess.Popen is no type of' in line
    pickled = 'train_dataloader.dataset.proposal_file=a.pkl'
    assert '--trust-pickles' in fails('train', task.config, '--cfg-options', pickled)
    assert not task.work_dir.exists()


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('optim_wrapper.optimizer.lr=abc', "SGD: .*'str' and 'float'"),
        ('randomness.seed=TEXT', "randomness.seed must be a whole number, not 'TEXT'"),
    ],
)
def test_values_of_another_type(
    option: str, message: str, fails: Callable[..., str], make_task: Callable[[str], Task]
) -> None:
    line = fails('train', make_task('classification').config, '--cfg-options', option)
    assert re.search(message, line), line
