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
    norms = [
        m
        for m in module.modules()
        if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    # Without tracking, a norm would save fewer tensors than the checkpoint expects of it.
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    before = [count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for count, value in zip(counts, before):
            count.copy_(value)
