"""mmpretrain imports beside a transformers it does not know."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import scopevit
from scopevit.compat import mmpretrain as shim

ROOT = Path(scopevit.__file__).parents[1]
MOVED = ('apply_chunking_to_forward', 'find_pruneable_heads_and_indices', 'prune_linear_layer')

# Any class can be imported from anywhere, as mmpretrain asks for dozens, save the names that left.
TRANSFORMERS = f"""
class PreTrainedModel:
    from_pretrained = None

PreTrainedModel.config_class = PreTrainedModel

def __getattr__(name):
    if name.startswith('__') or name in {MOVED!r}:
        raise AttributeError(name)
    return type(name, (PreTrainedModel,), {{}})
"""
MODULES = (
    '__init__',
    'activations',
    'modeling_outputs',
    'modeling_utils',
    'models/__init__',
    'models/auto/__init__',
    'models/auto/auto_factory',
    'models/bert/__init__',
    'models/bert/configuration_bert',
    'models/bert/modeling_bert',
    'models/opt/__init__',
    'models/opt/configuration_opt',
    'utils/__init__',
)


@pytest.fixture(scope='module')
def transformers_5(tmp_path_factory):
    """A folder with a package transformers that lacks the names as version 5 does."""
    folder = tmp_path_factory.mktemp('site')
    for module in MODULES:
        path = folder / 'transformers' / f'{module}.py'
        path.parent.mkdir(exist_ok=True)
        path.write_text(TRANSFORMERS)
    info = folder / 'transformers-5.23.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: transformers\nVersion: 5.23.0\n')
    return folder


def run(folder, code):
    paths = [str(folder), str(ROOT), os.environ.get('PYTHONPATH', '')]
    return subprocess.run(
        [sys.executable, '-c', code],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths), OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_symptom(transformers_5):
    pytest.importorskip('pycocotools')
    result = run(transformers_5, 'import mmpretrain.models')
    assert 'TypeError: NoneType takes no arguments' in result.stderr, (
        'mmpretrain imports by itself: scopevit/compat/mmpretrain.py can be deleted'
    )


def test_the_way_out(transformers_5):
    code = """
from scopevit import compat
compat.apply()
import mmpretrain.models
import mmdet.models
from mmpretrain.registry import MODELS
print(MODELS.build(dict(type='ResNet', depth=18)).depth)
try:
    MODELS.build(dict(type='OFA'))
except ImportError as error:
    print(error)
"""
    result = run(transformers_5, code)
    assert result.returncode == 0, result.stderr[-3000:]
    lines = result.stdout.splitlines()
    assert lines[0] == '18' and 'multi-modal dependencies' in lines[1]


@pytest.mark.parametrize('names', [MOVED, MOVED[1:], ()])
@pytest.mark.parametrize('switched_on', [True, False])
def test_switched_off_only_where_a_name_is_missing(monkeypatch, names, switched_on, acted):
    utils = SimpleNamespace(**{name: None for name in names})
    monkeypatch.setitem(sys.modules, 'transformers', SimpleNamespace(modeling_utils=utils))
    dependency = SimpleNamespace(WITH_MULTIMODAL=switched_on)
    shim._correct(dependency)
    assert dependency.WITH_MULTIMODAL is (switched_on and names == MOVED)
    assert acted == (['mmpretrain'] if switched_on and names != MOVED else [])


def test_switched_off_where_transformers_does_not_import(monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    dependency = SimpleNamespace(WITH_MULTIMODAL=True)
    shim._correct(dependency)
    assert dependency.WITH_MULTIMODAL is False
