"""The dilated groups of a map by one compiled graph for any size.

A compiler that does not know the sizes would ask anew at each of them which groups are how large.
Here all groups are of one kind, full, and the slots that they miss are masked.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from scopevit.models.groups import DilatedGroups


class PaddedGroups(DilatedGroups):
    """See `DilatedGroups`."""

    def __init__(self, height: int, width: int, grid_size: int) -> None:
        self.height, self.width = height, width
        self.dilation_y = (height + grid_size - 1) // grid_size  # rounded up
        self.dilation_x = (width + grid_size - 1) // grid_size
        self.kinds = [(grid_size, grid_size)]
        self.padded_height = grid_size * self.dilation_y
        self.padded_width = grid_size * self.dilation_x

    def split(self, x: Tensor) -> Iterator[Tensor]:
        """Yields (B, dy, dx, G, G, C) of a map (B, H, W, C), zeros where slots are missing."""
        grid_size, _ = self.kinds[0]
        x = F.pad(x, (0, 0, 0, self.padded_width - self.width, 0, self.padded_height - self.height))
        # (B, H', W', C) -> (B, G, dy, G, dx, C) -> (B, dy, dx, G, G, C)
        x = x.unflatten(2, (grid_size, self.dilation_x)).unflatten(1, (grid_size, self.dilation_y))
        yield x.permute(0, 2, 4, 1, 3, 5)

    def merge(self, kinds: Iterator[Tensor]) -> Tensor:
        """Makes a map (B, H, W, C) of the groups that `split` yields."""
        # (B, dy, dx, G, G, C) -> (B, G, dy, G, dx, C) -> (B, H', W', C) -> (B, H, W, C)
        x = next(kinds).permute(0, 3, 1, 4, 2, 5)
        x = x.reshape(x.shape[0], self.padded_height, self.padded_width, x.shape[-1])
        # Cloned: whether the cut is dense already depends on the sizes.
        return x[:, : self.height, : self.width].clone(memory_format=torch.contiguous_format)

    def mask(self, bias: Tensor) -> Tensor:
        """Returns the bias (heads, S, S) with -inf at missing keys, (dy * dx * heads, S, S)."""
        grid_size, _ = self.kinds[0]
        # (dy, G) and (dx, G): whether the map has the position
        rows = torch.arange(self.padded_height, device=bias.device).lt(self.height)
        columns = torch.arange(self.padded_width, device=bias.device).lt(self.width)
        rows = rows.reshape(grid_size, self.dilation_y).T
        columns = columns.reshape(grid_size, self.dilation_x).T
        # (dy, dx, G, G) -> (dy * dx, 1, 1, S)
        exists = rows[:, None, :, None] & columns[None, :, None, :]
        exists = exists.reshape(self.dilation_y * self.dilation_x, 1, 1, bias.shape[-1])
        # (dy * dx, heads, S, S) -> (dy * dx * heads, S, S)
        return bias.masked_fill(~exists, float('-inf')).flatten(0, 1)
