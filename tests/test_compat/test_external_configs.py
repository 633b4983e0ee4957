"""Configs of other projects inherit from scopevit's."""

from pathlib import Path

import mmengine.hub
import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

import scopevit
from scopevit.compat import external_configs

CONFIGS = Path(__file__).parents[2] / 'configs'
DETECTOR = 'detection/mask-rcnn_scopevit-tiny_fpn_1x_coco.py'
CLASSIFIER = 'classification/scopevit-xtiny_8xb128_in1k.py'
SEGMENTER = 'segmentation/fpn_scopevit-tiny_8xb4-80k_ade20k-512x512.py'


@pytest.mark.parametrize(
    ('recipe', 'scope'), [(CLASSIFIER, 'mmpretrain'), (DETECTOR, 'mmdet'), (SEGMENTER, 'mmseg')]
)
def test_config_of_another_project(recipe, scope, tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = 'scopevit::{recipe}'\nmodel = dict(backbone=dict(arch='xtiny'))\n")
    cfg, own = Config.fromfile(path), Config.fromfile(CONFIGS / recipe)
    assert cfg.default_scope == scope
    # What it inherits is of the library, whatever its own default scope.
    assert cfg.model['_scope_'] == scope
    own.model.backbone.arch = 'xtiny'
    own.model['_scope_'] = scope
    assert cfg.model.to_dict() == own.model.to_dict()
    assert cfg.train_cfg.to_dict() == own.train_cfg.to_dict()


def test_inherited_model_in_a_project_of_another_scope(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = 'scopevit::{CLASSIFIER}'\ndefault_scope = 'mmdet'\n")
    model = MODELS.build(Config.fromfile(path).model)
    assert type(model).__module__ == 'mmpretrain.models.classifiers.image'


def test_what_is_not_there(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = 'scopevit::detection/nope.py'\n")
    with pytest.raises(FileNotFoundError, match='scopevit/.mim/configs/detection/nope.py'):
        Config.fromfile(path)
    path.write_text("_base_ = 'mmdet::nope.py'\n")
    with pytest.raises((FileNotFoundError, ValueError)):
        Config.fromfile(path)


def test_config_from_the_hub_of_mmengine():
    cfg = mmengine.hub.get_config(f'scopevit::{CLASSIFIER}')
    assert cfg.to_dict() == Config.fromfile(CONFIGS / CLASSIFIER).to_dict()
    # Also of an editable install, whose files are not where pip puts those of others.
    find = mmengine.hub.hub.get_installed_path
    assert find('scopevit') == str(Path(scopevit.__file__).parent)
    assert find('mmengine') == str(Path(mmengine.__file__).parent)


def test_applying_again_changes_nothing():
    find = Config._get_cfg_path
    external_configs.apply()
    assert Config._get_cfg_path is find
