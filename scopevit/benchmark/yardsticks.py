"""What the machine can do at the time: a product of large matrices, and a large copy."""

import statistics
from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from scopevit.benchmark.timing import median_time, synchronize

PRODUCT_SIDES = {'cpu': 2048, 'cuda': 8192}
COPIED_NUMBERS = 2**26  # of float32


class Yardsticks:
    """Operations and bytes a second, in the rounds in which a case is timed.

    Args:
        precisions: Types of the products by torch's names, as 'float32' and 'bfloat16'; on a GPU
            'float32' is what the TF32 switches of the process make of it.
        device: 'cpu' or 'cuda'.
    """

    def __init__(self, precisions: Sequence[str], device: str) -> None:
        self.device = device
        self.products: dict[str, list[float]] = {name: [] for name in precisions}
        self.copies: list[float] = []

    @property
    def product_rates(self) -> dict[str, float]:
        """Operations a second by precision."""
        return {name: statistics.median(rates) for name, rates in self.products.items()}

    @property
    def copy_rate(self) -> float:
        """Bytes a second, read and written."""
        return statistics.median(self.copies)

    def take_turns(self) -> Iterator[None]:
        """Measures all of them at each turn."""
        side = PRODUCT_SIDES[self.device]
        source = torch.randn(COPIED_NUMBERS, device=self.device)
        target = torch.empty_like(source)
        factors = {name: self.factors(name, side) for name in self.products}

        def product(name: str) -> None:
            F.linear(*factors[name])
            synchronize(self.device)

        def copy() -> None:
            target.copy_(source)
            synchronize(self.device)

        while True:
            yield
            for name, rates in self.products.items():
                rates.append(2.0 * side**3 / median_time(partial(product, name)))
            self.copies.append(2.0 * source.nbytes / median_time(copy))

    def factors(self, precision: str, side: int) -> tuple[Tensor, Tensor]:
        """Returns two square matrices."""
        dtype = getattr(torch, precision)
        left, right = torch.randn(2, side, side, device=self.device).to(dtype)
        if self.device == 'cpu' and dtype == torch.float32 and torch.backends.mkldnn.is_available():
            # torch would take MKL, which reaches half of this on some processors.
            return left.to_mkldnn(), right.to_mkldnn()
        return left, right
