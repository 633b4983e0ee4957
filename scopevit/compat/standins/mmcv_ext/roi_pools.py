"""RoIPool, and its deformable form, of regions (index of the image, x1, y1, x2, y2)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ._shared import torchvision_operators, upcast
from .rois import sample_groups


def _bins(start: Tensor, end: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """First pixel, and first after the last, of `count` bins between coordinates (R, ).

    Returns:
        Both (R, count), within 0 to `size`. Neighbours share the pixel that a border cuts.
    """
    step = (end - start)[:, None] / count
    index = torch.arange(count, device=start.device)
    first = (index * step + start[:, None]).floor().clamp(0, size)
    last = ((index + 1) * step + start[:, None]).ceil().clamp(0, size)
    return first, last


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fills `output` and `argmax` (R, C, h, w) with the largest pixel of each bin and its index.

    `input` is (N, C, H, W), `rois` (R, 5). Bins outside are 0, and -1 in `argmax`. torchvision
    rounds a region to pixels before it makes bins, mmcv does not: each bin goes to torchvision's
    kernel as a region by itself, of one bin.
    """
    features = upcast(input)
    rois = rois.to(features.dtype)
    channels, height, width = input.shape[1:]
    x1, y1 = (rois[:, 1:3] * spatial_scale).unbind(dim=1)
    x2, y2 = ((rois[:, 3:] + 1) * spatial_scale).unbind(dim=1)
    left, right = _bins(x1, x2, pooled_width, width)
    top, bottom = _bins(y1, y2, pooled_height, height)
    # (R, h, w) of either
    columns = (right > left) & (x2 > x1)[:, None]
    rows = (bottom > top) & (y2 > y1)[:, None]
    inside = rows[:, :, None] & columns[:, None]
    bins = rois.new_empty(*inside.shape, 5)
    bins[..., 0] = rois[:, 0, None, None]
    # One that lies outside stays empty: torchvision would make it one pixel large.
    bins[..., 1] = torch.where(inside, left[:, None], width)
    bins[..., 2] = torch.where(inside, top[:, :, None], height)
    bins[..., 3] = torch.where(inside, right[:, None] - 1, width)
    bins[..., 4] = torch.where(inside, bottom[:, :, None] - 1, height)
    pooled = torchvision_operators().roi_pool(features, bins.flatten(0, 2), 1.0, 1, 1)
    for filled, values in zip((output, argmax), pooled):
        # (R * h * w, C, 1, 1) -> (R, C, h, w)
        filled.copy_(values.view(*inside.shape, channels).permute(0, 3, 1, 2))


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Adds `grad_output` (R, C, h, w) to `grad_input` (N, C, H, W) where the largest pixels were.

    torchvision's operator makes a map of its own, whose copy takes half as long as its work.
    """
    grad = upcast(grad_output)
    channels, height, width = grad_input.shape[1:]
    planes = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    index = planes[:, :, None, None] * (height * width) + argmax.clamp(min=0)
    grad = grad.masked_fill(argmax < 0, 0).flatten()
    in_place = grad.dtype == grad_input.dtype
    total = grad_input if in_place else grad.new_zeros(grad_input.shape)
    total.view(-1).scatter_add_(0, index.flatten(), grad)
    if not in_place:
        grad_input.copy_(total)


def _along_axis(
    rois: Tensor, offset: Tensor, axis: int, samples: int, size: int, scale: float, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels around each sample along one axis of a map, 0 across and 1 down.

    Args:
        rois: (r, 5).
        offset: Of each bin, in sizes of its region over `gamma` (r, 2, h, w).
        axis: 0 or 1.
        samples: How many there are of a bin.
        size: Pixels of the map.
        scale: Of the map, in the image.
        gamma: Scale of the offsets.

    Returns:
        Their indices, their weights and the derivatives of these by the offset, each
        (r, h, w, samples, 2).
    """
    start, end = rois[:, 1 + axis] * scale - 0.5, rois[:, 3 + axis] * scale - 0.5
    extent = (end - start)[:, None, None, None]
    bins = offset.size(3 - axis)
    steps = torch.arange(bins * samples, device=rois.device, dtype=rois.dtype)
    steps = (steps + 0.5) / (bins * samples)
    # (h * samples, ) -> (h, 1, samples), or (w * samples, ) -> (w, samples)
    steps = steps.view(bins, *[1] * axis, samples)
    position = start[:, None, None, None] + extent * (steps + gamma * offset[:, axis, ..., None])
    low = position.floor().clamp(0, size - 1)
    share = (position - low).clamp(0, 1)
    # The map is constant from the middle of a pixel at the border on, and 0 beyond one pixel more.
    inside = ((position >= -1) & (position <= size))[..., None]
    slope = gamma * extent * ((position >= 0) & (position < size - 1))
    return (
        torch.stack([low, (low + 1).clamp(max=size - 1)], dim=-1).long(),
        torch.stack([1 - share, share], dim=-1) * inside,
        torch.stack([-slope, slope], dim=-1),
    )


def _samples(
    rois: Tensor, offset: Tensor, ny: int, nx: int, shape: torch.Size, scale: float, gamma: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The samples of bins, as K = ny * nx * 4 pixels of a table of all pixels, N * H * W.

    Args:
        rois: (r, 5).
        offset: (r, 2, h, w).
        ny: Samples of a bin, down.
        nx: Samples of a bin, across.
        shape: (N, C, H, W).
        scale: Of the map, in the image.
        gamma: Scale of the offsets.

    Returns:
        Rows of the table, their shares in the average of the bin, and the derivatives of the shares
        by the offset across and by that down, each (r * h * w, K).
    """
    height, width = shape[2:]
    x, x_weight, x_slope = _along_axis(rois, offset, 0, nx, width, scale, gamma)
    y, y_weight, y_slope = _along_axis(rois, offset, 1, ny, height, scale, gamma)
    y = (rois[:, 0].long().view(-1, 1, 1, 1, 1) * height + y) * width

    def combine(
        down: Tensor, across: Tensor, function: Callable[[Tensor, Tensor], Tensor] = torch.mul
    ) -> Tensor:
        # (r, h, w, ny, 2) and (r, h, w, nx, 2) -> (r, h, w, ny, nx, 2, 2) -> (r * h * w, K)
        both = function(down[..., :, None, :, None], across[..., None, :, None, :])
        return both.flatten(3).flatten(0, 2)

    y_weight, y_slope = y_weight / (ny * nx), y_slope / (ny * nx)
    return (
        combine(y, x, torch.add),
        combine(y_weight, x_weight),
        combine(y_weight, x_slope),
        combine(y_slope, x_weight),
    )


def _table(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N * H * W, C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fills `output` (R, C, h, w) with the averages of bins that are moved by offsets.

    Args:
        input: (N, C, H, W).
        rois: (R, 5).
        offset: Across and down, in sizes of the region over `gamma` (R, 2, h, w), or nothing.
        output: Filled.
        pooled_height: h.
        pooled_width: w.
        spatial_scale: Of `input`, in the image.
        sampling_ratio: Samples of a bin down and across; 0 for one a pixel.
        gamma: Scale of the offsets.
    """
    features = upcast(input)
    rois, offset = rois.to(features.dtype), offset.to(features.dtype)
    size, channels, table = (pooled_height, pooled_width), input.size(1), _table(features)
    if not offset.numel():
        offset = features.new_zeros(len(rois), 2, *size)
    output.zero_()
    for members, ny, nx in sample_groups(
        rois, 4 * channels, *size, spatial_scale, sampling_ratio, aligned=True
    ):
        pixels, shares, *_ = _samples(
            rois[members], offset[members], ny, nx, input.shape, spatial_scale, gamma
        )
        pooled = F.embedding_bag(pixels, table, mode='sum', per_sample_weights=shares)
        # (r * h * w, C) -> (r, C, h, w)
        pooled = pooled.view(-1, *size, channels).permute(0, 3, 1, 2)
        output[members] = pooled.to(output.dtype)


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fills `grad_input`, and `grad_offset` where there are offsets; see the forward pass."""
    features, grad = upcast(input), upcast(grad_output)
    rois, shifts = rois.to(features.dtype), offset.to(features.dtype)
    size, channels, table = (pooled_height, pooled_width), input.size(1), _table(features)
    if not offset.numel():
        shifts = features.new_zeros(len(rois), 2, *size)
    total = torch.zeros_like(table)
    grad_offset.zero_()
    for members, ny, nx in sample_groups(
        rois, 4 * channels, *size, spatial_scale, sampling_ratio, aligned=True
    ):
        pixels, shares, *slopes = _samples(
            rois[members], shifts[members], ny, nx, input.shape, spatial_scale, gamma
        )
        rows = grad[members].permute(0, 2, 3, 1).flatten(0, 2)  # (r * h * w, C)
        by_pixel = shares[:, :, None] * rows[:, None]
        total.index_add_(0, pixels.flatten(), by_pixel.flatten(0, 1))
        if offset.numel():
            by_share = torch.bmm(table[pixels], rows[:, :, None]).squeeze(2)
            # two of (r * h * w, ) -> (r, 2, h, w)
            by_offset = torch.stack([(by_share * slope).sum(dim=1) for slope in slopes])
            by_offset = by_offset.view(2, -1, *size).transpose(0, 1)
            grad_offset[members] = by_offset.to(grad_offset.dtype)
    # (N * H * W, C) -> (N, C, H, W)
    grad_input.copy_(total.view(len(input), *input.shape[2:], channels).permute(0, 3, 1, 2))
