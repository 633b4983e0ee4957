"""Mixed precision where mmengine's AmpOptimWrapper, which needs a GPU, is not to be had."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn

from scopevit.engine.model import unwrap_model
from scopevit.errors import InputError


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """OptimWrapper under which the backbone runs in bfloat16 where it may, on the CPU.

    bfloat16 has the range of float32, so the loss is not scaled as it is for float16, which is slow
    on CPUs. The heads stay in float32: some hand their outputs to numpy, which has no bfloat16.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        backbone = getattr(unwrap_model(model), 'backbone', None)
        if backbone is None:
            raise InputError(f'--amp on the CPU: {type(model).__name__} has no backbone')
        forward = backbone.forward

        def forward_in_bfloat16(x: Tensor) -> tuple[Tensor, ...]:
            with torch.autocast('cpu', dtype=torch.bfloat16):
                outs = forward(x)
            return tuple(out.float() for out in outs)

        backbone.forward = forward_in_bfloat16
        try:
            with super().optim_context(model):
                yield
        finally:
            del backbone.forward  # the class's method shows again
