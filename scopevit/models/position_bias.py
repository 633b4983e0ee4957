"""The relative position bias of GSDA's groups, and what is kept of it."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from scopevit.models.modes import is_autocast_on

HIDDEN_DIMS = 512
DROPOUT = 0.125


class RelativePositionBias(nn.Module):
    """Bias of a GSDA group's logits, an MLP of the signed logarithmic offsets of its slots.

    In eval mode, where nobody asks for its gradient, it is made once and kept until the weights
    are others, until it is made with gradients, or until the mode is set. What overwrites weights
    through `.data` has to call `eval()` after it, as MMEngine does after its EMAHook.
    """

    offsets: Tensor
    index: Tensor

    def __init__(self, num_heads: int, grid_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.grid_size = grid_size
        self.fc1 = nn.Linear(2, HIDDEN_DIMS)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(DROPOUT)
        self.fc2 = nn.Linear(HIDDEN_DIMS, num_heads)

        steps = torch.arange(1 - grid_size, grid_size, dtype=torch.float32)
        offsets = torch.stack(torch.meshgrid(steps, steps, indexing='ij'), dim=-1)
        # One row for each offset (a - a', b - b'), (2G - 1, 2G - 1, 2).
        self.register_buffer('offsets', offsets.sign() * offsets.abs().log1p(), persistent=False)
        slots = torch.arange(grid_size)
        index = slots[:, None] - slots[None, :] + grid_size - 1  # (G, G): row of a - a'
        self.register_buffer('index', index, persistent=False)
        self._cache: BiasCache | None = None

    def forward(self, kinds: Sequence[tuple[int, int]], dtype: torch.dtype) -> list[Tensor]:
        """Makes the biases of kinds of groups.

        Args:
            kinds: Rows and columns of each kind.
            dtype: Type of the biases.

        Returns:
            (heads, S, S) of each kind, with S = rows * columns slots; queries before keys.
        """
        weights = (self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
        needs_grad = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
        is_compiling = torch.compiler.is_compiling()
        if self.training or needs_grad or is_compiling:
            if not is_compiling:  # a compiler traces the making of the bias, not its keeping
                self._cache = None  # an optimizer may follow, and fused ones leave no trace
            full = self.full()
            return [group_bias(full, rows, columns, dtype) for rows, columns in kinds]
        if self._cache is None or not self._cache.is_of(weights):
            # What inference mode makes could take part in no backward pass later.
            with torch.inference_mode(False), torch.no_grad():
                self._cache = BiasCache(weights, self.full())
        return [self._cache.get(rows, columns, dtype) for rows, columns in kinds]

    def full(self) -> Tensor:
        """Makes the bias of a full group, (heads, G, G, G, G), queries before keys."""
        device = self.offsets.device.type
        # In the weights' precision: it is small, and every logit depends on it.
        with torch.autocast(device, enabled=False) if is_autocast_on(device) else nullcontext():
            table = self.fc2(self.drop(self.act(self.fc1(self.offsets))))
        # (2G - 1, 2G - 1, heads) -> (a, a', b, b', heads) -> (heads, a, b, a', b')
        table = table[self.index[:, :, None, None], self.index[None, None, :, :]]
        return table.permute(4, 0, 2, 1, 3)

    def train(self, mode: bool = True) -> 'RelativePositionBias':
        """Sets the mode and forgets the bias."""
        self._cache = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the cache out of copies and pickles."""
        return {**self.__dict__, '_cache': None}


def group_bias(full: Tensor, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Cuts the bias (heads, S, S) of groups of rows x columns slots from (heads, G, G, G, G)."""
    slots = rows * columns
    bias = full[:, :rows, :columns, :rows, :columns]
    return bias.reshape(-1, slots, slots).to(dtype)


class BiasCache:
    """The biases that came of some weights, by way of that of a full group (heads, G, G, G, G)."""

    def __init__(self, weights: Sequence[Tensor], full: Tensor) -> None:
        # Held, so that no other tensor comes to lie where one of them was.
        self.weights = [weight.detach() for weight in weights]
        self.state = state_of(weights)
        self.full = full
        self.biases: dict[tuple[int, int, torch.dtype], Tensor] = {}

    def is_of(self, weights: Sequence[Tensor]) -> bool:
        """Whether `weights` are those the biases were made of, with their values of then."""
        return self.state is not None and self.state == state_of(weights)

    def get(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """See `group_bias`."""
        key = rows, columns, dtype
        if key not in self.biases:
            with torch.inference_mode(False), torch.no_grad():
                self.biases[key] = group_bias(self.full, rows, columns, dtype)
        return self.biases[key]


def state_of(tensors: Sequence[Tensor]) -> list[tuple[object, ...]] | None:
    """Returns what changes when tensors change; None of inference tensors, which do not tell."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return [(t.data_ptr(), t._version, t.dtype, t.device) for t in tensors]
