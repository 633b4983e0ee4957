"""Mixed precision where mmengine's AmpOptimWrapper, which needs a GPU, is not to be had."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn

from scopevit.engine.model import unwrap_model
from scopevit.errors import InputError


def in_half(forward: Callable[..., Any], device: str, dtype: torch.dtype) -> Callable[..., Any]:
    """Returns a forward pass that computes in half precision and gives maps in float32.

    Args:
        forward: Of a backbone, which gives a map or a tuple of maps.
        device: Type of the device.
        dtype: Type of autocast.
    """

    def half_forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype=dtype):
            outs = forward(*args, **kwargs)
        return outs.float() if isinstance(outs, Tensor) else tuple(out.float() for out in outs)

    return half_forward


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
        backbone.forward = in_half(backbone.forward, 'cpu', torch.bfloat16)
        try:
            with super().optim_context(model):
                yield
        finally:
            del backbone.forward  # the class's method shows again
