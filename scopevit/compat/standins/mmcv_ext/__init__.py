"""Loaded as `mmcv._ext`: the operators of mmcv in torchvision and plain torch.

Names and arguments are those `mmcv/ops/*.py` calls; most operators fill an output they are
given. All run on any device. float16 and bfloat16 are computed in float32 and cast back, because
torchvision has no kernel for some of them and sums of many terms lose digits.

torchvision is imported by the operator that needs it, since `mmcv.ops` is imported by code,
classification for one, that never runs one.
"""

from collections.abc import Callable
from typing import Any

from .attention import ms_deform_attn_backward, ms_deform_attn_forward
from .boxes import bbox_overlaps, nms, nms_match, softnms
from .carafe import (
    carafe_backward,
    carafe_forward,
    carafe_naive_backward,
    carafe_naive_forward,
)
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
from .psa_mask import psamask_backward, psamask_forward
from .roi_pools import (
    deform_roi_pool_backward,
    deform_roi_pool_forward,
    roi_pool_backward,
    roi_pool_forward,
)
from .rois import roi_align_backward, roi_align_forward
from .rotated import box_iou_quadri, box_iou_rotated, nms_quadri, nms_rotated
from .sync_batch_norm import (
    sync_bn_backward_data,
    sync_bn_backward_param,
    sync_bn_forward_mean,
    sync_bn_forward_output,
    sync_bn_forward_var,
)


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
