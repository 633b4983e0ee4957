"""Checks of the backbone's arguments: what is wrong, and what would be right."""

from collections.abc import Sequence
from math import inf, isfinite
from typing import Any

from torch import Tensor

ConfigType = dict[str, Any]
MIN_IMAGE_SIZE = 32


def check_flags(**flags: bool) -> None:
    """Raises a TypeError unless all flags are True or False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f'{name} must be True or False, not {value!r}')


def check_number(
    name: str, value: float, kind: type, low: float = -inf, above: float = -inf, below: float = inf
) -> None:
    """Raises unless `value` is a number of `kind` with low <= value, above < value < below."""
    kinds = (int, float) if kind is float else (kind,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f'{name} must be of type {kind.__name__}, not {value!r}')
    if not (low <= value and above < value < below):
        bounds = [('>=', low), ('>', above), ('<', below)]
        wanted = ' and '.join(f'{sign} {bound}' for sign, bound in bounds if isfinite(bound))
        raise ValueError(f'{name} must be {wanted}, not {value!r}')


def resolve_out_indices(out_indices: int | Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Returns ascending stage indices from 0."""
    given = [out_indices] if isinstance(out_indices, int) else out_indices
    allowed = (
        f'out_indices must be ascending stage indices from 0 to {num_stages - 1} '
        f'(or -{num_stages} to -1), not {out_indices!r}'
    )
    if not isinstance(given, Sequence) or not all(type(i) is int for i in given):
        raise TypeError(allowed)
    indices = [i + num_stages if i < 0 else i for i in given]
    in_range = all(0 <= i < num_stages for i in indices)
    if not indices or not in_range or indices != sorted(set(indices)):
        raise ValueError(allowed)
    return tuple(indices)


def resolve_norm_cfg(norm_cfg: ConfigType | None, embed_dims: Sequence[int]) -> ConfigType:
    """Returns a copy of `norm_cfg`, by default batch norm, once it is found sound."""
    if norm_cfg is None:
        return dict(type='BN')
    allowed = ('BN', 'SyncBN', 'GN')
    if not isinstance(norm_cfg, dict):
        raise TypeError(f"norm_cfg must be a dict such as dict(type='BN'), not {norm_cfg!r}")
    if norm_cfg.get('type') not in allowed:
        raise ValueError(
            f"norm_cfg['type'] must be one of {', '.join(allowed)}, not {norm_cfg.get('type')!r}"
        )
    if norm_cfg['type'] == 'GN':
        groups, narrowest = norm_cfg.get('num_groups'), embed_dims[0] // 2  # within the stem
        widths = [narrowest, *embed_dims]
        if type(groups) is not int or groups < 1 or any(width % groups for width in widths):
            raise ValueError(
                f"norm_cfg of type 'GN' needs 'num_groups' that divides all of {widths}, "
                f'not {groups!r}'
            )
    return dict(norm_cfg)


def check_image_size(x: Tensor) -> None:
    """Raises a ValueError unless images (B, C, H, W) have enough pixels."""
    if min(x.shape[-2:]) < MIN_IMAGE_SIZE:
        raise ValueError(
            f'ScopeViT needs images of at least {MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE} pixels, '
            f'but got {x.shape[-2]}x{x.shape[-1]} (height x width)'
        )
