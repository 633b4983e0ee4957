"""A small architecture with every feature of the real ones, and how outputs are compared."""

from collections.abc import Iterable

import torch
from torch import nn

MINI = dict(
    embed_dims=(8, 16, 32, 32),
    depths=(1, 1, 2, 1),
    num_heads=(2, 4, 4, 4),
    kv_strides=(4, 2, 1, 1),
    head_splits=((1, 1, 0), (2, 1, 1), (2, 1, 1), (1, 1, 2)),
    grid_size=8,
)


@torch.no_grad()
def outputs(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...] | torch.Tensor:
    return model(x)


def assert_near(
    actual: Iterable[torch.Tensor], expected: Iterable[torch.Tensor], tolerance: float = 1e-5
) -> None:
    """Compares pairs of tensors by their largest deviation over their largest magnitude."""
    for a, b in zip(actual, expected, strict=True):
        # A few gradients are 0 but for rounding, such as that of a bias common to all logits.
        assert (a - b).abs().max() <= tolerance * (b.abs().max() + 1e-3)
