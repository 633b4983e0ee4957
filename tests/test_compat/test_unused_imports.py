"""Configs that import something in vain are read."""

from pathlib import Path

import mmpretrain
import pytest
from mmengine.config import Config

from scopevit.compat import acted
from scopevit.compat.unused_imports import _imports_in_vain

CONFIGS = Path(mmpretrain.__file__).parent / '.mim' / 'configs'


def test_configs_of_replknet_are_read():
    cfg = Config.fromfile(CONFIGS / 'replknet' / 'replknet-31B_32xb64_in1k.py')
    assert cfg.model.backbone.type == 'RepLKNet'
    assert 'unused_imports' in acted


def test_a_config_with_an_import_in_vain_is_inherited(tmp_path):
    (tmp_path / 'base.py').write_text('from mmengine.hooks import Hook\nmodel = dict(type="A")\n')
    (tmp_path / 'mine.py').write_text("_base_ = 'base.py'\nmodel = dict(depth=18)\n")
    assert Config.fromfile(tmp_path / 'mine.py').model == dict(type='A', depth=18)


def test_one_that_uses_its_import_is_not(tmp_path):
    (tmp_path / 'base.py').write_text('from mmengine.hooks import Hook\nmodel = dict(type=Hook)\n')
    (tmp_path / 'mine.py').write_text("_base_ = 'base.py'\n")
    with pytest.raises(RuntimeError, match='inheritance chain'):
        Config.fromfile(tmp_path / 'mine.py')


@pytest.mark.parametrize(
    ('code', 'in_vain'),
    [
        ('import torch\na = 1', True),
        ('from torch import nn as layers\na = 1', True),
        ('from torch import nn as layers\na = layers.ReLU', False),
        ('from torch import nn\na = 1\nif __name__ == "__main__":\n    print(nn)', True),
        ('from torch import nn\na = 1\nif a:\n    b = nn.ReLU', False),
        ('import torch.nn\na = dict(type=torch.nn.ReLU)', False),
        ('from torch.nn import *\na = 1', False),
        ('from mmengine.config import read_base\nwith read_base():\n    from .b import *', False),
    ],
)
def test_use_of_imports(code, in_vain):
    assert _imports_in_vain(code) is in_vain
