"""The race: every network trains by one recipe."""

import pytest
import torch
from mmcv.cnn.bricks import DropPath
from recipes import CONFIGS, read
from timm.layers import DropPath as TimmDropPath

from scopevit.engine.model import build_model

RECIPES = sorted((CONFIGS / 'race').glob('*.py'))


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_differs_in_the_network_alone(path):
    cfg, first = read(path), read(CONFIGS / 'race' / 'scopevit-xtiny_fashion-mnist.py')
    assert {key for key in {*cfg, *first} if cfg.get(key) != first.get(key)} <= {'model'}
    assert cfg.optim_wrapper.optimizer.lr == 1e-3
    assert cfg.train_cfg.max_epochs == 4
    model = build_model(cfg)
    drops = [m for m in model.modules() if isinstance(m, (DropPath, TimmDropPath))]
    assert all(drop.drop_prob == 0 for drop in drops)
    scales = [p for n, p in model.named_parameters() if 'gamma' in n or 'layer_scale' in n]
    assert all((scale == scale.flatten()[0]).all() for scale in scales)
    assert {round(scale.flatten()[0].item(), 6) for scale in scales} <= {0.1}
    model.eval()
    with torch.no_grad():
        out = model(torch.zeros(2, 1, 56, 56), mode='tensor')
    assert out.shape == (2, 10)
