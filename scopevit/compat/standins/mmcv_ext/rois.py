"""Pooling of regions of interest, each (index of the image, x1, y1, x2, y2)."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch._prims_common import alert_not_deterministic

from ._shared import torchvision_operators, upcast

_SAMPLES_AT_A_TIME = 2**24


def sample_groups(
    rois: Tensor,
    channels: int,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Iterator[tuple[Tensor, int, int]]:
    """Groups regions by how many samples are taken in each of their height * width bins.

    Args:
        rois: (R, 5).
        channels: Of the features; with the samples, they limit how many regions a group has.
        height: Bins of a region, down.
        width: Bins of a region, across.
        spatial_scale: Of the features, in the image.
        sampling_ratio: Samples of a bin down and across; 0 for one a pixel.
        aligned: Whether regions may be smaller than a pixel.

    Yields:
        Indices of regions, and samples of their bins down and across; none of empty regions.
    """
    if not len(rois):
        return
    everyone = torch.arange(len(rois), device=rois.device)
    if sampling_ratio > 0:
        groups = [(everyone, sampling_ratio, sampling_ratio)]
    else:
        offset = 0.5 if aligned else 0.0
        corners = rois[:, 1:] * spatial_scale - offset  # in the order of torchvision's kernels
        sizes = corners[:, 2:] - corners[:, :2]
        if not aligned:
            sizes = sizes.clamp(min=1)
        counts = (sizes / sizes.new_tensor([width, height])).ceil().int()
        groups = [
            (everyone[(counts == pair).all(dim=1)], ny, nx)
            for pair in counts.unique(dim=0)
            for nx, ny in [pair.tolist()]
        ]
    for members, ny, nx in groups:
        if ny > 0 and nx > 0:
            step = max(_SAMPLES_AT_A_TIME // (channels * height * width * ny * nx), 1)
            yield from ((some, ny, nx) for some in members.split(step))


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fills `output` (R, C, h, w) from `input` (N, C, H, W) and `rois` (R, 5).

    Mode 1 averages the samples of a bin. Mode 0 takes the largest, and fills `argmax_y` and
    `argmax_x` with its row and column among them (mmcv: its coordinates, which half precision
    rounds); bins without a sample are 0, and -1 there.
    """
    features, rois = upcast(input), rois.to(upcast(input).dtype)
    size = aligned_height, aligned_width
    align = torchvision_operators().roi_align
    if pool_mode == 1:
        output.copy_(align(features, rois, spatial_scale, *size, sampling_ratio, aligned))
        return
    output.zero_()
    argmax_y.fill_(-1)
    argmax_x.fill_(-1)
    groups = sample_groups(rois, input.size(1), *size, spatial_scale, sampling_ratio, aligned)
    for members, ny, nx in groups:
        # A bin of its own for each sample, taken in its middle.
        fine = aligned_height * ny, aligned_width * nx
        samples = align(features, rois[members], spatial_scale, *fine, 1, aligned)
        # (r, C, h * ny, w * nx) -> (r, C, h, w, ny * nx)
        samples = samples.unflatten(3, (-1, nx)).unflatten(2, (-1, ny))
        largest, index = samples.transpose(3, 4).flatten(4).max(dim=4)
        output[members] = largest.to(output.dtype)
        argmax_y[members] = (index // nx).to(argmax_y.dtype)
        argmax_x[members] = (index % nx).to(argmax_x.dtype)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fills `grad_input` (N, C, H, W) from `grad_output` (R, C, h, w)."""
    grad = upcast(grad_output)
    rois = rois.to(grad.dtype)
    if grad.is_cuda:  # as torchvision's own backward pass, which calls this operator
        alert_not_deterministic('roi_align_backward_kernel')
    size, shape = (aligned_height, aligned_width), grad_input.shape
    align = torchvision_operators()._roi_align_backward
    if pool_mode == 1:
        grad_input.copy_(align(grad, rois, spatial_scale, *size, *shape, sampling_ratio, aligned))
        return
    total = grad.new_zeros(shape)
    for members, ny, nx in sample_groups(
        rois, shape[1], *size, spatial_scale, sampling_ratio, aligned
    ):
        index = argmax_y[members].long() * nx + argmax_x[members].long()
        samples = grad.new_zeros(*index.shape, ny * nx)
        samples.scatter_(4, index[..., None], grad[members][..., None])
        # (r, C, h, w, ny * nx) -> (r, C, h * ny, w * nx)
        samples = samples.unflatten(4, (ny, nx)).transpose(3, 4).flatten(4).flatten(2, 3)
        fine = aligned_height * ny, aligned_width * nx
        total += align(samples, rois[members], spatial_scale, *fine, *shape, 1, aligned)
    grad_input.copy_(total)
