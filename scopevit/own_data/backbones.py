"""The backbone of a config for own data: a size of ScopeViT, or a network of timm."""

import difflib
from dataclasses import dataclass
from typing import Any

import torch

from scopevit.errors import InputError
from scopevit.models.sizes import ARCHS

STRIDES = [4, 8, 16, 32]  # of the maps that the necks take
TIMM = 'timm:'
FETCH = 'pretrained=True fetches the weights that timm knows.'


@dataclass(frozen=True)
class Backbone:
    """A backbone.

    Attributes:
        name: What to call it.
        settings: For `model.backbone`.
        channels: Of its maps at `STRIDES`.
        memory: What a step takes against ScopeViT-tiny.
        comment: For the config.
    """

    name: str
    settings: dict[str, Any]
    channels: list[int]
    memory: float = 1.0
    comment: str = ''


def scopevit_backbone(size: str) -> Backbone:
    """Returns ScopeViT in one of its sizes."""
    if size not in ARCHS:
        raise InputError(f'--size takes {", ".join(ARCHS)}, not {size!r}')
    # Predicted by tools/benchmark/predict.py, as the memory of the recipes.
    memory = {'xtiny': 0.75, 'tiny': 1.0, 'small': 1.3}[size]
    channels = list(ARCHS[size]['embed_dims'])
    return Backbone(f'ScopeViT-{size}', dict(arch=size), channels, memory)


def timm_name(backbone: str) -> str:
    """Returns the name of timm's network in `timm:NAME`.

    Raises:
        InputError: If it is something else, or timm has no such network.
    """
    import timm

    if not backbone.startswith(TIMM):
        raise InputError(f'--backbone takes timm:NAME, not {backbone!r}; --size is for ScopeViT')
    name = backbone.removeprefix(TIMM)
    if not timm.is_model(name):
        near = ', '.join(difflib.get_close_matches(name, timm.list_models()))
        advice = f'did you mean {near}?' if near else 'timm.list_models() has the names'
        raise InputError(f'--backbone {backbone}: timm has no such network; {advice}')
    return name


def timm_backbone(backbone: str, last_only: bool) -> Backbone:
    """Returns a network of timm that gives maps; its channels are found by building it.

    Args:
        backbone: `timm:NAME`.
        last_only: Whether the map at stride 32 is enough.

    Raises:
        InputError: If it gives no such maps, or takes images of one size alone.
    """
    import timm

    name = timm_name(backbone)
    wanted = STRIDES[-1:] if last_only else STRIDES
    try:
        network = timm.create_model(name, features_only=True).eval()
        strides, channels = network.feature_info.reduction(), network.feature_info.channels()
        with torch.no_grad():
            maps = network(torch.zeros(1, 3, 128, 160))
    # Whatever a network of timm may say to being asked for maps, or to the size of the image.
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        said = str(error).strip().partition('\n')[0]
        raise InputError(
            f'--backbone {backbone}: gives no maps of images of any size ({said})'
        ) from error
    if not set(wanted) <= set(strides):
        found = ', '.join(map(str, strides))
        raise InputError(
            f'--backbone {backbone}: has maps at strides {found}; '
            f'it takes {", ".join(map(str, wanted))}'
        )
    indices = [len(strides) - 1 - strides[::-1].index(stride) for stride in wanted]
    for i in indices:
        if tuple(maps[i].shape) != (1, channels[i], 128 // strides[i], 160 // strides[i]):
            raise InputError(f'--backbone {backbone}: its maps are not (N, C, H, W)')
    settings = dict(
        _delete_=True,
        type='mmpretrain.TIMMBackbone',
        model_name=name,
        features_only=True,
        out_indices=tuple(indices),
        pretrained=False,
    )
    return Backbone(name, settings, [channels[i] for i in indices], comment=FETCH)
