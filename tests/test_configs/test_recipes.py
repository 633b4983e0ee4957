"""The recipes for the large data sets: built without data, one step at an odd size."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from scopevit.engine.libraries import find_library

CONFIGS = Path(__file__).parents[2] / 'configs'
CLASSIFICATION = 'classification/scopevit-tiny_8xb128_in1k.py'
DETECTION = 'detection/mask-rcnn_scopevit-tiny_fpn_1x_coco.py'
SEGMENTATION = 'segmentation/fpn_scopevit-tiny_8xb4-80k_ade20k-512x512.py'
POSE = 'pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192.py'
RECIPES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.glob('*/*.py')
    if path.parent.name not in ('_base_', 'demo')
)


def load(recipe):
    cfg = Config.fromfile(CONFIGS / recipe)
    find_library(cfg.default_scope)
    return cfg


def build_model(cfg):
    # Another test of this process may have left another library's scope.
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        return registry.build(cfg.model)


def test_every_recipe_is_known_here():
    assert sorted(RECIPES) == sorted([CLASSIFICATION, DETECTION, SEGMENTATION, POSE])


@pytest.mark.parametrize('recipe', RECIPES)
def test_builds_and_sees_an_odd_size(recipe):
    cfg = load(recipe)
    with torch.no_grad():
        model = build_model(cfg).eval()
        inputs = torch.randn(1, 3, 101, 75)
        maps = model.extract_feat(inputs)
    assert type(model.backbone).__name__ == 'ScopeViT'
    assert sum(p.numel() for p in model.backbone.parameters()) == 8_006_716 - 257 * 1000
    shapes = {
        CLASSIFICATION: [(1, 256)],
        DETECTION: [(1, 256, h, w) for h, w in ((26, 19), (13, 10), (7, 5), (4, 3), (2, 2))],
        SEGMENTATION: [(1, 256, h, w) for h, w in ((26, 19), (13, 10), (7, 5), (4, 3))],
        POSE: [(1, 256, 4, 3)],
    }
    assert [tuple(m.shape) for m in maps] == shapes[recipe]


@pytest.mark.parametrize(
    'recipe, lr, decay, batch, free',
    [
        (CLASSIFICATION, 1e-3, 0.05, 128, 'norms, biases, gammas'),
        (DETECTION, 2e-4, 0.05, 2, 'norms, gammas'),
        (SEGMENTATION, 2e-4, 1e-4, 4, ''),
        (POSE, 1e-3, 0.0, 32, ''),
    ],
)
def test_optimiser_is_the_authors(recipe, lr, decay, batch, free):
    cfg = load(recipe)
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == 8 * batch
    model = build_model(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    assert type(optimizer).__name__ == ('Adam' if recipe == POSE else 'AdamW')
    by_parameter = {id(p): group for group in optimizer.param_groups for p in group['params']}
    norms = {
        id(p)
        for module in model.modules()
        if 'Norm' in type(module).__name__
        for p in module.parameters(recurse=False)
    }
    for name, parameter in model.named_parameters():
        group = by_parameter[id(parameter)]
        without = (
            ('norms' in free and id(parameter) in norms)
            or ('gammas' in free and 'gamma' in name)
            or ('biases' in free and name.endswith('bias'))
        )
        assert group['lr'] == lr, name
        assert group['weight_decay'] == (0 if without else decay), name


@pytest.mark.parametrize('recipe', RECIPES)
def test_name_tells_batch_schedule_and_size(recipe):
    cfg, name = load(recipe), Path(recipe).stem
    fields = re.split('[_-]', name)
    pipeline = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    gpus, batch = 8, cfg.train_dataloader.batch_size
    assert cfg.model.backbone.arch == re.search('scopevit-([a-z]+)', name)[1]
    if found := re.search(r'(\d+)xb(\d+)', name):
        assert (gpus, batch) == tuple(map(int, found.groups()))
    assert cfg.auto_scale_lr.base_batch_size == gpus * batch
    if '1x' in fields:  # the field's word for 12 epochs at 16 images of 1333x800
        assert (cfg.train_cfg.max_epochs, gpus * batch) == (12, 16)
        assert pipeline['Resize'].scale == (1333, 800)
    if found := re.search(r'-(\d+)k_', name):
        assert cfg.train_cfg.max_iters == int(found[1]) * 1000
    if found := re.search(r'-(\d+)e_', name):
        assert cfg.train_cfg.max_epochs == int(found[1])
    if found := re.search(r'-(\d+)x(\d+)$', name):
        size = tuple(map(int, found.groups()))
        if 'RandomCrop' in pipeline:
            assert pipeline['RandomCrop'].crop_size == cfg.model.data_preprocessor.size == size
        else:  # height x width in the name, width and height in the pipeline
            assert pipeline['TopdownAffine'].input_size == size[::-1]
    if fields[-1] == 'in1k':
        assert (cfg.train_cfg.max_epochs, pipeline['RandomResizedCrop'].scale) == (300, 256)
