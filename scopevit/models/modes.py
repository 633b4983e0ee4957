"""What torch is doing around a forward pass: casting, or compiling."""

import torch
from torch import Tensor


def compute_dtype(x: Tensor) -> torch.dtype:
    """Returns the type in which linear layers compute on `x`."""
    device = x.device.type
    is_cast = is_autocast_on(device) and x.dtype != torch.float64
    return torch.get_autocast_dtype(device) if is_cast else x.dtype


def is_autocast_on(device: str) -> bool:
    """Whether autocast is enabled on a type of device; 'meta' has none.

    `torch.amp.is_autocast_available` tells of every type, but torch 2.6 and 2.11 cannot compile it.
    """
    return device != 'meta' and torch.is_autocast_enabled(device)


def is_known(*sizes: int) -> bool:
    """Whether sizes are numbers, as they always are but in a compiled graph for any size.

    Asking does not tie the graph to the answer.
    """
    if not torch.compiler.is_compiling():
        return True
    # What torch.export sees, of which 2 * batch would be known to be even. Dynamo shows ints.
    if any(isinstance(size, torch.SymInt) for size in sizes):
        return False
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # slow to import

    return all(
        statically_known_true(size % 2 == 0) or statically_known_true(size % 2 == 1)
        for size in sizes
    )
