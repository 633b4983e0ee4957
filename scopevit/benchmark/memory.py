"""Peak memory of what runs inside a context."""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scopevit.benchmark.networks import Network


class PeakMemory(TorchDispatchMode):
    """Follows the tensors that operators allocate, on any device.

    A storage counts from the operator that returns it until its last tensor is gone; views and
    operators in place add nothing, nor do tensors made before. Scratch space that an operator frees
    before it returns is not seen. Inside `torch.inference_mode` some operators are not taken apart,
    and what they hold in between is scratch space too: use `torch.no_grad`.

        with torch.no_grad(), PeakMemory() as memory:
            model(images)
        memory.peak_bytes

    Attributes:
        peak_bytes: The most bytes that were alive at one time.
        largest_bytes: Bytes of the largest storage.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = 0
        self.largest_bytes = 0
        self._alive: dict[int, int] = {}  # bytes of each storage by its address
        self._alive_bytes = 0

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        given = {storage._cdata for storage in storages((args, kwargs))}
        for storage in storages(out):
            if storage._cdata not in given and storage._cdata not in self._alive:
                self._alive[storage._cdata] = storage.nbytes()
                self._alive_bytes += storage.nbytes()
                self.largest_bytes = max(self.largest_bytes, storage.nbytes())
                weakref.finalize(storage, self._forget, storage._cdata)
        self.peak_bytes = max(self.peak_bytes, self._alive_bytes)
        return out

    def _forget(self, address: int) -> None:
        self._alive_bytes -= self._alive.pop(address)


def tensors_of(values: object) -> list[Tensor]:
    """Returns the tensors in nested values."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def storages(values: object) -> list[torch.UntypedStorage]:
    """Returns the storages of all tensors in nested values."""
    return [tensor.untyped_storage() for tensor in tensors_of(values)]


def peak_memory(run: Callable[[], object], device: str) -> int:
    """Measures the bytes that a run allocates at its peak, beyond what is there before.

    On the CPU they are those of `PeakMemory`, on a GPU those of torch's allocator.
    """
    if device == 'cpu':
        with PeakMemory() as memory:
            run()
        return memory.peak_bytes
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure_memory(network: Network, device: str = 'cpu') -> int:
    """Measures the peak of one image's forward pass in bytes, beyond the network and the image.

    The network moves to the device, 'cpu' or 'cuda'.

    Raises:
        InputError: If the network does not run on images of its shape.
    """
    module, images = network.module.to(device), network.make_input(device=device)
    with network.explained(), torch.no_grad():
        if device == 'cuda':
            module(images)  # libraries keep workspaces from their first call on
        return peak_memory(lambda: module(images), device)
