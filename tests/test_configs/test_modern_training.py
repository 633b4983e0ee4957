"""Recipes of modern heads train, test and predict by the tools, on images a fifth of their size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from recipes import MODERN, ROOT, build, load, method

from scopevit import Predictor
from scopevit.checkpoint import BACKBONE_OF, read_checkpoint
from scopevit.errors import InputError

IMAGE = ROOT / 'data' / 'demo' / 'pose' / 'images' / 'val' / 'cam01_0075.jpg'
# Settings of steps, of data preprocessors and of heads that are sizes in pixels.
SIZES = ('scale', 'scales', 'img_scale', 'crop_size', 'size', 'input_size', 'random_size_range')
FULL_SIZE = ('mocov3', 'rtmpose')  # small by themselves, the second of a fixed size


def shrink(part: Any) -> None:
    """Divides the sizes in a part of a config by five."""
    children = part.items() if isinstance(part, dict) else enumerate(part)
    for key, child in list(children):
        if key in SIZES and not isinstance(child, dict):
            part[key] = smaller(child)
        elif isinstance(child, (dict, list, tuple)):
            shrink(child)


def smaller(size: Any) -> Any:
    if isinstance(size, (list, tuple)):
        return type(size)(smaller(side) for side in size)
    return max(64, size // 5 // 32 * 32)


def write_small(recipe: str, path: Path) -> Config:
    """Writes a recipe for two steps of two small images, and a validation."""
    cfg = load(recipe).copy()
    loaders = [key for key in cfg if key.endswith('_dataloader') and cfg[key]]
    if method(recipe) not in FULL_SIZE:
        sizes = cfg.model.get('data_preprocessor'), cfg.model.get('test_cfg')
        for part in (*(cfg[key] for key in loaders), cfg.get('custom_hooks'), *sizes):
            shrink(part or {})
    if 'num_queries' in cfg.model:  # no more than a small image has places
        cfg.model.num_queries = cfg.model.test_cfg.max_per_img = 50
    for key in loaders:
        cfg[key].update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.batch_size = 2
    length = 'max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'
    cfg.train_cfg.update({length: 2})
    if cfg.get('val_dataloader'):
        cfg.train_cfg.update(val_interval=2, dynamic_intervals=None)
    cfg.dump(path)
    return cfg


def run(tool: Callable[..., tuple[int, str]], *arguments: object) -> None:
    code, err = tool(*arguments)
    assert code == 0, err[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize('recipe', [r for r in MODERN if method(r) != 'mocov3'])
def test_trains_tests_and_predicts(recipe, tree, tool, tmp_path, monkeypatch):
    config, work_dir = tmp_path / 'small.py', tmp_path / 'work_dir'
    cfg = write_small(recipe, config)
    monkeypatch.chdir(tree)
    run(tool, 'train', config, '--work-dir', work_dir)
    unit = 'iter' if 'max_iters' in cfg.train_cfg else 'epoch'
    checkpoint = work_dir / f'{unit}_2.pth'
    trained = torch.load(checkpoint, map_location='cpu')['state_dict']
    assert all(value.isfinite().all() for value in trained.values() if value.is_floating_point())
    run(tool, 'test', config, checkpoint, '--work-dir', work_dir)
    (result,) = Predictor(checkpoint)(IMAGE)
    found = result.to_dict()
    assert (found['width'], found['height']) == (360, 440)


@pytest.mark.slow
def test_self_supervised_backbone_goes_on_in_another_recipe(
    tree, tool, fails, tmp_path, monkeypatch
):
    config, work_dir = tmp_path / 'small.py', tmp_path / 'work_dir'
    write_small('classification/mocov3_scopevit-tiny_16xb256-300e_in1k.py', config)
    monkeypatch.chdir(tree)
    run(tool, 'train', config, '--work-dir', work_dir)
    checkpoint = work_dir / 'epoch_2.pth'
    assert 'test_dataloader' in fails('test', config, checkpoint)
    with pytest.raises(InputError, match='has no test_dataloader'):
        Predictor(checkpoint)
    weights = read_checkpoint(f'{BACKBONE_OF}{checkpoint}')['state_dict']
    trained = torch.load(checkpoint, map_location='cpu')['state_dict']
    name = 'stages.0.blocks.0.mssa.mlp.fc1.weight'
    assert torch.equal(weights[name], trained[f'backbone.{name}'])
    build(load('classification/scopevit-tiny_8xb128_in1k.py')).backbone.load_state_dict(weights)
