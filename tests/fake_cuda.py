"""Fake CUDA tensors, which have shapes, types and a device but no numbers, without a GPU.

What runs on them goes through torch's dispatch as it would on CUDA, so that it tells where a
tensor is made on another device, cast to another type, or looked into by the CPU.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Calls(TorchFunctionMode):
    """Counts what is called of torch, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        self.count[getattr(func, '__name__', str(func))] += 1
        return func(*args, **(kwargs or {}))


class OnlyCuda(TorchDispatchMode):
    """Refuses operators that read or make a tensor elsewhere, if it is more than one number."""

    def __torch_dispatch__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:
            # Only C++ code asks this way. Of a CUDA device, the autograd engine would ask the
            # driver for its streams.
            return torch.device('meta')
        kwargs = kwargs or {}
        if kwargs.get('device') == torch.device('meta'):  # C++ code makes one beside another
            kwargs = {**kwargs, 'device': torch.device('cuda')}
        out = func(*args, **kwargs)
        for x in tree_leaves((args, kwargs, out)):
            if isinstance(x, Tensor) and x.device.type != 'cuda' and x.dim():
                raise AssertionError(f'{func} on {x.device}, of shape {tuple(x.shape)}')
        return out


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Makes all tensors fake, which must then be on CUDA.

    Sizes that depend on numbers are symbols.
    """
    with pytest.MonkeyPatch.context() as patch:
        # Autocast switches itself off where there is no CUDA.
        patch.setattr(torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False)
        patch.setattr(torch.cuda, 'is_bf16_supported', lambda *args, **kwargs: True)
        # They lie nowhere.
        patch.setattr(Tensor, 'data_ptr', lambda tensor: id(tensor))
        with FakeTensorMode(shape_env=ShapeEnv()), OnlyCuda():
            yield


def to_cuda(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """As `module.to('cuda', dtype)`, from real tensors to fake ones."""

    def moved(x: Tensor) -> Tensor:
        return torch.empty(x.shape, dtype=dtype if x.is_floating_point() else x.dtype, device='cuda')

    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(moved(parameter), parameter.requires_grad)
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = moved(buffer)
    return module
