"""Deformable attention over several levels of features (arXiv:2010.04159).

A query's output is a weighted sum of rows of the value: of the four cells around each sampling
location. That is what torch's `embedding_bag` computes, so that no sample is ever stored, nor
the value transposed.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ._shared import upcast


class _End(NamedTuple):
    """One of the two cells around each position along an axis."""

    cell: Tensor  # index, moved into the level
    weight: Tensor  # 0 outside the level
    inside: Tensor  # 1 or 0


def _ends(position: Tensor, size: Tensor, index_type: torch.dtype) -> list[_End]:
    """Cells before and after positions (bags, L * P) along an axis of `size` (L * P) cells."""
    # Positions far outside would not fit an integer.
    position = position.clamp(min=-2).minimum(size.to(position.dtype) + 1)
    before = position.floor()
    share = position - before
    ends = []
    for cell, weight in ((before, 1 - share), (before + 1, share)):
        index = cell.to(index_type)
        inside = ((index >= 0) & (index < size)).to(position.dtype)
        ends.append(_End(index.clamp_(min=0).minimum(size - 1), weight.mul_(inside), inside))
    return ends


class _Samples:
    """Where each query of each head looks: the cells around its locations.

    A bag is a query of one image and head; it has 4 * L * P cells, those above left of all its
    locations first, then above right, below left and below right.
    """

    def __init__(
        self, value: Tensor, shapes: Tensor, level_start: Tensor, locations: Tensor
    ) -> None:
        images, keys, heads, channels = value.shape
        _, queries, _, levels, points, _ = locations.shape
        self.bags, self.points = images * queries * heads, levels * points
        self.table = upcast(value).reshape(-1, channels)
        largest = max(images * keys * heads, self.bags * 4 * self.points)
        index_type = torch.int32 if largest < 2**31 else torch.int64
        # (L, ) -> (L * P)
        self.height, self.width, start = (
            column.to(index_type).repeat_interleave(points)
            for column in (shapes[:, 0], shapes[:, 1], level_start)
        )
        x, y = locations.to(self.table.dtype).view(self.bags, self.points, 2).unbind(2)
        self.columns = _ends(x * self.width - 0.5, self.width, index_type)
        self.rows = _ends(y * self.height - 0.5, self.height, index_type)
        first = torch.arange(images, device=value.device, dtype=index_type) * (keys * heads)
        head = torch.arange(heads, device=value.device, dtype=index_type)
        # (images, 1, heads) -> (bags, 1, 1)
        offset = (first[:, None, None] + head).expand(-1, queries, -1).reshape(-1, 1, 1)
        cells = [row.cell * self.width + column.cell for row, column in self.corners()]
        # (bags, 4, L * P)
        self.index = torch.stack(cells, 1).add_(start).mul_(heads).add_(offset)

    def corners(self) -> list[tuple[_End, _End]]:
        """Row and column of the four cells, in the order of a bag."""
        return [(row, column) for row in self.rows for column in self.columns]

    def weights(self, attention: Tensor) -> Tensor:
        """Weights (bags, 4, L * P) of the cells, given those of the locations (bags, L * P)."""
        weights = [row.weight * column.weight for row, column in self.corners()]
        return torch.stack(weights, 1).mul_(attention[:, None])


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sums what the attention finds at the sampling locations, zero outside the levels.

    Args:
        value: (B, sum of H * W, heads, C).
        value_spatial_shapes: H and W of the levels (L, 2).
        value_level_start_index: Of each level the first of its keys (L, ).
        sampling_locations: x and y as parts of the width and height (B, Q, heads, L, P, 2).
        attention_weights: (B, Q, heads, L, P).
        im2col_step: Images at once in the compiled operator; here always all of them.

    Returns:
        (B, Q, heads * C)
    """
    images, queries = sampling_locations.shape[:2]
    if not sampling_locations.numel():
        return value.new_zeros(images, queries, value.size(2) * value.size(3))
    samples = _Samples(value, value_spatial_shapes, value_level_start_index, sampling_locations)
    attention = attention_weights.to(samples.table.dtype).view(samples.bags, samples.points)
    output = F.embedding_bag(
        samples.index.flatten(1),
        samples.table,
        per_sample_weights=samples.weights(attention).flatten(1),
        mode='sum',
    )
    return output.view(images, queries, -1).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fills the gradients, which have the shapes of what they belong to and come as zeros."""
    if not sampling_locations.numel():
        return
    samples = _Samples(value, value_spatial_shapes, value_level_start_index, sampling_locations)
    attention = attention_weights.to(samples.table.dtype).view(samples.bags, samples.points)
    grad = grad_output.to(samples.table.dtype).reshape(samples.bags, -1)
    grad_value.copy_(_gradient_of_table(samples, attention, grad).view_as(grad_value))
    index, bag_size = samples.index.flatten(), 4 * samples.points
    bag = torch.arange(samples.bags, device=index.device, dtype=index.dtype)
    by_weight = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grad, samples.table, index, bag * bag_size, bag.repeat_interleave(bag_size), 0
    ).view(samples.index.shape)
    _fill_gradients_of_samples(samples, attention, by_weight, grad_sampling_loc, grad_attn_weight)


def _gradient_of_table(samples: _Samples, attention: Tensor, grad: Tensor) -> Tensor:
    """Each row's sum of the gradients (bags, C) of the bags it is in.

    That is a sum over bags again, one a row of the table. torch's own backward pass of
    `embedding_bag` takes three times as long on a CPU.
    """
    row, order = samples.index.flatten().sort()
    first = torch.arange(len(samples.table), device=row.device, dtype=row.dtype)
    return F.embedding_bag(
        order.to(row.dtype).div_(4 * samples.points, rounding_mode='trunc'),
        grad,
        torch.searchsorted(row, first, out_int32=row.dtype == torch.int32),
        per_sample_weights=samples.weights(attention).flatten().index_select(0, order),
        mode='sum',
    )


def _fill_gradients_of_samples(
    samples: _Samples,
    attention: Tensor,
    by_weight: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
) -> None:
    """Of locations and attention (bags, L * P), from that by the cells' weights `by_weight`."""
    by_attention, by_x, by_y = (torch.zeros_like(attention) for _ in range(3))
    for corner, (row, column) in enumerate(samples.corners()):
        by_cell = by_weight[:, corner]
        along_x, along_y = by_cell * row.weight, by_cell * column.weight
        by_attention.addcmul_(along_x, column.weight)
        # The weight of a cell after the position grows with it, that of one before falls.
        by_x.addcmul_(along_x, column.inside, value=1 if column is samples.columns[1] else -1)
        by_y.addcmul_(along_y, row.inside, value=1 if row is samples.rows[1] else -1)
    grad_attn_weight.copy_(by_attention.view_as(grad_attn_weight))
    by_location = torch.stack([by_x * samples.width, by_y * samples.height], dim=-1)
    grad_sampling_loc.copy_(by_location.mul_(attention[..., None]).view_as(grad_sampling_loc))
