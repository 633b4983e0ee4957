"""Pooling of regions of interest, each (index of the image, x1, y1, x2, y2)."""

from torch import Tensor
from torch._prims_common import alert_not_deterministic

from ._shared import torchvision_operators, upcast


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
    """Fills `output` (R, C, h, w) from `input` (N, C, H, W) and `rois` (R, 5)."""
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign with pool_mode='max' needs the compiled mmcv: torchvision only averages. "
            "Use pool_mode='avg' or install mmcv built for this torch."
        )
    features = upcast(input)
    output.copy_(
        torchvision_operators().roi_align(
            features,
            rois.to(features.dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            sampling_ratio,
            aligned,
        )
    )


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
    if grad.is_cuda:  # as torchvision's own backward pass, which calls this operator
        alert_not_deterministic('roi_align_backward_kernel')
    grad_input.copy_(
        torchvision_operators()._roi_align_backward(
            grad,
            rois.to(grad.dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )
