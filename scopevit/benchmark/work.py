"""What operators read, write and compute."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from scopevit.benchmark.memory import storages, tensors_of

aten = torch.ops.aten
FREE = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided}
# They read nothing of the tensors they are given, or few of their numbers.
READ_LITTLE = {
    aten.fill_,
    aten.full_like,
    aten.index,
    aten.new_full,
    aten.new_ones,
    aten.new_zeros,
    aten.nll_loss2d_backward,
    aten.nll_loss2d_forward,
    aten.ones_like,
    aten.rand_like,
    aten.zero_,
    aten.zeros_like,
}


class Work(TorchDispatchMode):
    """Counts at least what the operators inside need, each for itself; views are free.

    What an operator reads and writes is counted once, as if nothing stayed in a cache from one
    operator to the next. Operations are those of convolutions, matrix products and attention.

    Attributes:
        moved_bytes: Read and written.
        operations: Two for each multiply-add.
        operators: How many there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moved_bytes = 0
        self.operations = 0
        self.operators = 0
        self._formulas = FlopCounterMode(display=False).flop_registry

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if is_free(func, (args, kwargs), out):
            return out
        packet = func.overloadpacket
        self.moved_bytes += moved_bytes(packet, args, kwargs, out)
        self.operators += 1
        if packet is aten.convolution_backward:
            self.operations += convolution_backward_operations(self._formulas, *args)
        elif packet in self._formulas:
            self.operations += self._formulas[packet](*args, **kwargs, out_val=out)
        return out


def is_free(func: Any, given: object, out: object) -> bool:
    """Whether an operator moves nothing: it allocates, makes a view, or tells something."""
    made = storages(out)
    if not made or func.overloadpacket in FREE:
        return True
    if func._schema.is_mutable:
        return False
    known = {storage._cdata for storage in storages(given)}
    return all(storage._cdata in known for storage in made)


def moved_bytes(packet: Any, args: tuple, kwargs: dict, out: object) -> int:
    """Returns the bytes that an operator reads and writes at least."""
    if packet in READ_LITTLE:
        return touched_bytes(out)
    if packet is aten.copy_:  # its target is written alone
        return touched_bytes(args[1:]) + touched_bytes(out)
    if packet is aten.index_put_:  # as much of its target as there are values
        return touched_bytes(args[1:]) + touched_bytes(args[2])
    return touched_bytes((args, kwargs)) + touched_bytes(out)


def touched_bytes(values: object) -> int:
    """Returns the bytes of the tensors in nested values; one that is there twice counts once."""
    tensors = {id(tensor): tensor for tensor in tensors_of(values)}
    return sum(map(tensor_bytes, tensors.values()))


def tensor_bytes(x: Tensor) -> int:
    """Returns the bytes of a tensor's different numbers: what is expanded is read once."""
    return min(x.numel() * x.element_size(), x.untyped_storage().nbytes())


def convolution_backward_operations(
    formulas: dict[Any, Callable[..., int]],
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: object,
    stride: object,
    padding: object,
    dilation: object,
    transposed: bool,
    output_padding: object,
    groups: int,
    wanted: list[bool],
) -> int:
    """Returns the operations of a convolution's gradients, of its input and its weight.

    Each takes as many as the forward pass. (torch's own formula forgets the groups of the second.)
    """
    settings = None, stride, padding, dilation, transposed
    return sum(wanted[:2]) * formulas[aten.convolution](x, weight, *settings, out_val=grad)
