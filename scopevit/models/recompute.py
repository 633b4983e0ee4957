"""Activation checkpointing that leaves the statistics of batch norms alone."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(layer: nn.Module, x: Tensor) -> Tensor:
    """Applies a layer whose activations are made again in the backward pass, and not kept."""
    if torch.compiler.is_compiling():
        # A compiled graph updates running statistics once, however often it recomputes.
        return checkpoint(layer, x, use_reentrant=False)
    contexts = nullcontext(), KeepRunningStats(layer)
    return checkpoint(layer, x, use_reentrant=False, context_fn=lambda: contexts)


class KeepRunningStats:
    """Keeps recomputed forward passes from counting their batch in the running stats again."""

    def __init__(self, module: nn.Module) -> None:
        norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
        self.norms = [norm for norm in norms if norm.training and norm.track_running_stats]

    def __enter__(self) -> None:
        self.momenta = [norm.momentum for norm in self.norms]
        self.counts = [norm.num_batches_tracked.clone() for norm in self.norms]  # type: ignore
        # Without tracking, a norm would save fewer tensors than the checkpoint expects of it.
        for norm in self.norms:
            norm.momentum = 0.0

    def __exit__(self, *_: object) -> None:
        for norm, momentum, count in zip(self.norms, self.momenta, self.counts):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)  # type: ignore
