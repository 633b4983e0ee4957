"""The recipes for the large data sets, by glob, and how the tests read and build them."""

import copy
import functools
import re
import socket
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import nn

from scopevit.engine.config import read_config
from scopevit.engine.libraries import find_library
from scopevit.models.scopevit import TransformerLayer

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
EVERY = sorted(
    path.relative_to(CONFIGS).as_posix()
    for task in ('classification', 'detection', 'segmentation', 'pose')
    for path in (CONFIGS / task).rglob('*.py')
)
# Heads that the paper has not: with ScopeViT-tiny alone, and settings that are not the authors'.
MODERN_METHODS = (
    'cascade-mask-rcnn', 'dino-4scale', 'mask2former', 'mocov3', 'rtmdet', 'rtmdet-ins', 'rtmo',
    'rtmpose', 'segformer',
)  # fmt: skip
MODERN = [recipe for recipe in EVERY if Path(recipe).stem.split('_')[0] in MODERN_METHODS]
RECIPES = [recipe for recipe in EVERY if recipe not in MODERN]
PEERS = [recipe for recipe in RECIPES if '/peers/' in recipe]
OURS = [recipe for recipe in RECIPES if recipe not in PEERS]
PRIMITIVES = [recipe for recipe in OURS if 'scopevit-tiny_' in recipe]
SIZES = [recipe for recipe in OURS if recipe not in PRIMITIVES]
# Those with another schedule or image size build the same model as those without.
VARIANTS = [recipe for recipe in RECIPES if re.search('-ema_|_ms-3x_|-384x288', recipe)]

# mmengine reads a library's whole model zoo again for each of its files that a recipe inherits.
load_once = functools.cache(mmengine.load)


def stem(recipe: str) -> str:
    return Path(recipe).stem


def is_classifier(recipe: str) -> bool:
    return recipe.startswith('classification/')


def backbone_name(recipe: str) -> str:
    """'pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192.py' -> 'scopevit-tiny'."""
    is_first = is_classifier(recipe) and recipe not in MODERN
    return stem(recipe).split('_')[0 if is_first else 1]


def method(recipe: str) -> str:
    """What a recipe trains, whatever the backbone: 'mask-rcnn'; for a classifier its data."""
    is_last = is_classifier(recipe) and recipe not in MODERN
    return stem(recipe).split('_')[-1 if is_last else 0]


def primitive(recipe: str) -> str:
    """The same recipe with ScopeViT-tiny."""
    name = stem(recipe).replace(backbone_name(recipe), 'scopevit-tiny', 1)
    return f'{recipe.partition("/")[0]}/{name}.py'


def read(path: Path) -> Config:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.config.utils.load', load_once)
        cfg = read_config(path)
    find_library(cfg.default_scope)
    return cfg


@functools.cache
def load(recipe: str) -> Config:
    """Reads a recipe once; whoever changes it makes a copy first."""
    return read(CONFIGS / recipe)


def build(cfg: Config, model: dict | None = None) -> nn.Module:
    """Builds and initialises the model of a config as the Runner does, but without a network."""
    model = copy.deepcopy(model or cfg.model)
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    torch.manual_seed(0)
    # Another test of this process may have left another library's scope.
    scope = MODELS.switch_scope_and_registry(cfg.default_scope)
    with pytest.MonkeyPatch.context() as patch, scope as registry:
        patch.setattr(socket.socket, 'connect', refuse_connection)
        built = registry.build(model)
        built.init_weights()
    return revert_sync_batchnorm(built)


def refuse_connection(_: socket.socket, address: object) -> None:
    pytest.fail(f'building a model connects to {address}')


def parameters_of_kind(model: nn.Module, kind: str) -> list[nn.Parameter]:
    if kind == 'biases':
        return [p for name, p in model.named_parameters() if name.endswith('.bias')]
    if kind == 'norms':
        types = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
        norms = [module for module in model.modules() if isinstance(module, types)]
        return [p for norm in norms for p in norm.parameters()]
    layers = [m for m in model.backbone.modules() if isinstance(m, TransformerLayer)]
    assert len(layers) == 2 * sum(model.backbone.arch['depths'])
    return [p for layer in layers for p in (layer.gamma1, layer.gamma2)]
