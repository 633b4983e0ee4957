"""Loaded as `mmcv._ext`: the operators of mmcv in torchvision and plain torch.

Names and arguments are those `mmcv/ops/*.py` calls; most operators fill an output they are
given. All run on any device. float16 and bfloat16 are computed in float32 and cast back, because
torchvision has no kernel for some of them and sums of many terms lose digits.

torchvision is imported by the operator that needs it, since `mmcv.ops` is imported by code,
classification for one, that never runs one.
"""

from collections.abc import Callable
from typing import Any

from .boxes import bbox_overlaps, nms, nms_match, softnms
from .deformable import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from .focal_losses import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from .masked import masked_col2im_forward, masked_im2col_forward
from .roi_pools import (
    deform_roi_pool_backward,
    deform_roi_pool_forward,
    roi_pool_backward,
    roi_pool_forward,
)
from .rois import roi_align_backward, roi_align_forward


def __getattr__(name: str) -> Callable[..., Any]:
    """Makes every other operator exist, as `load_ext` checks, and fail when called."""
    if name.startswith('_'):
        raise AttributeError(name)

    def missing(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            f'the operator "{name}" of mmcv needs the compiled package: mmcv-lite is installed, '
            'and scopevit brings only what mmdet, mmseg, mmpretrain and mmpose call. '
            'Install mmcv built for this torch (e.g. `mim install mmcv`).'
        )

    missing.__name__ = name
    return missing


def get_compiler_version() -> str:
    """Shown by the environment report of mmcv."""
    return 'none (operators of torchvision)'


get_compiling_cuda_version = get_compiler_version
