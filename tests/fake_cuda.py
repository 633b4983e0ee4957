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

needs_cuda_code = pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason='torch is built for CPUs alone'
)


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
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves((args, kwargs, out)):
            if not isinstance(x, Tensor) or x.device.type == 'cuda' or not x.dim():
                continue
            if x.shape != (0,):  # as torch 2.11 makes for every checkpoint
                raise AssertionError(f'{func} on {x.device}, of shape {tuple(x.shape)}')
        return out


@contextmanager
def fake_cuda(shape_env: ShapeEnv | None = None) -> Iterator[Calls]:
    """Makes all tensors fake, which must then be on CUDA; yields what is called.

    Args:
        shape_env: Makes symbols of sizes that depend on numbers; without, they are an error.
    """
    calls = Calls()
    with pytest.MonkeyPatch.context() as patch:
        # Where there is a GPU, fake tensors would start it.
        patch.setattr(torch.cuda, 'is_available', lambda: False)
        # Autocast switches itself off where there is none.
        patch.setattr(torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False)
        patch.setattr(torch.cuda, 'is_bf16_supported', lambda *args, **kwargs: True)
        # They lie nowhere.
        patch.setattr(Tensor, 'data_ptr', lambda tensor: id(tensor))
        # Checkpoints recompute once for all that asks for it in one backward pass.
        patch.setattr(torch._C, '_current_graph_task_id', lambda: 0)
        with FakeTensorMode(shape_env=shape_env), OnlyCuda(), calls:
            yield calls


def to_cuda(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """As `module.to('cuda', dtype)`, from real tensors to fake ones."""

    def moved(x: Tensor) -> Tensor:
        kept = dtype if x.is_floating_point() else x.dtype
        return torch.empty(x.shape, dtype=kept, device='cuda')

    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(moved(parameter), parameter.requires_grad)
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = moved(buffer)
    return module


@torch.no_grad()
def backward(x: Tensor) -> None:
    """As `x.sum().backward()`, without the autograd engine, which asks the driver for streams."""
    waiting: Counter[Any] = Counter()  # for how many gradients a node still waits
    found = [x.grad_fn]
    while found:
        for after, _ in found.pop().next_functions:
            if after is not None:
                found += [] if after in waiting else [after]
                waiting[after] += 1
    ready = [x.grad_fn]
    grads: dict[Any, dict[int, Tensor]] = {x.grad_fn: {0: torch.ones_like(x)}}
    while ready:
        node = ready.pop()
        given = grads.pop(node, {})
        if hasattr(node, 'variable'):  # a leaf
            node.variable.grad = given.get(0)
            continue
        apply = getattr(node, 'apply', node)  # of Python functions
        out = apply(*(given.get(i) for i in range(len(node._input_metadata))))
        out = out if isinstance(out, tuple) else (out,)
        for grad, (after, index) in zip(out, node.next_functions):
            if after is None:
                continue
            if grad is not None:
                meta, known = after._input_metadata[index], grads.setdefault(after, {})
                grad = grad.sum_to_size(meta.shape).to(meta.dtype)
                known[index] = known[index] + grad if index in known else grad
            waiting[after] -= 1
            ready += [] if waiting[after] else [after]
