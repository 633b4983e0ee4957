"""Activation checkpointing that leaves the statistics of batch norms alone."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(layer: nn.Module, x: Tensor) -> Tensor:
    """Applies a layer whose activations are made again in the backward pass, and not kept."""
    if torch.compiler.is_compiling():
        # A compiled graph updates running statistics once, however often it recomputes.
        return checkpoint(layer, x, use_reentrant=False)
    contexts = lambda: (nullcontext(), keep_running_stats(layer))  # noqa: E731
    return checkpoint(layer, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def keep_running_stats(module: nn.Module) -> Iterator[None]:
    """Keeps a recomputed forward pass from counting its batch in the running stats again."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    norms = [norm for norm in norms if norm.training and norm.track_running_stats]
    counts: list[Tensor] = [norm.num_batches_tracked for norm in norms]  # type: ignore[misc]
    before = [(norm.momentum, count.clone()) for norm, count in zip(norms, counts)]
    # Without tracking, a norm would save fewer tensors than the checkpoint expects of it.
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, count, (momentum, value) in zip(norms, counts, before):
            norm.momentum = momentum
            count.copy_(value)
