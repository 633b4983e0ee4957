"""Fake CUDA tensors under watch: they tell what is made on another device, or cast, and how."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scopevit.benchmark.fake_cuda import fake_cuda

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
def only_fake_cuda(shape_env: ShapeEnv | None = None) -> Iterator[Calls]:
    """Makes all tensors fake, which must then be on CUDA; yields what is called."""
    calls = Calls()
    with fake_cuda(shape_env), OnlyCuda(), calls:
        yield calls
