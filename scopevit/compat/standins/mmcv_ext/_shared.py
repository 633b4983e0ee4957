"""What the operators share."""

from typing import Any

import torch
from torch import Tensor

_LOW_PRECISION = (torch.float16, torch.bfloat16)


def torchvision_operators() -> Any:
    """Returns the namespace of torchvision's operators, which importing it fills."""
    import torchvision  # noqa: F401

    return torch.ops.torchvision


def upcast(x: Tensor) -> Tensor:
    """Returns float32 in place of half precision and of integers, other floats as they are."""
    return x.float() if x.dtype in _LOW_PRECISION or not x.is_floating_point() else x
