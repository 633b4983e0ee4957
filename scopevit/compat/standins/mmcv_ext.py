"""Loaded as `mmcv._ext`: the operators of mmcv in torchvision and plain torch.

Names and arguments are those `mmcv/ops/*.py` calls; most operators fill an output they are
given. All run on any device. float16 and bfloat16 are computed in float32 and cast back, because
torchvision has no kernel for some of them and sums of many terms lose digits.

torchvision is imported by the operator that needs it, since `mmcv.ops` is imported by code,
classification for one, that never runs one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import alert_not_deterministic
from torch.nn.functional import logsigmoid

_LOW_PRECISION = (torch.float16, torch.bfloat16)


def _torchvision() -> Any:
    """Returns the namespace of torchvision's operators, which importing it fills."""
    import torchvision  # noqa: F401

    return torch.ops.torchvision


def _upcast(x: Tensor) -> Tensor:
    return x.float() if x.dtype in _LOW_PRECISION or not x.is_floating_point() else x


def __getattr__(name: str) -> Callable[..., Any]:
    """Makes every other operator exist, as `load_ext` checks, and fail when called."""
    if name.startswith('_'):
        raise AttributeError(name)

    def missing(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            f'the operator "{name}" of mmcv needs the compiled package: mmcv-lite is installed, '
            'and scopevit replaces only the operators its own recipes use. '
            'Install mmcv built for this torch (e.g. `mim install mmcv`).'
        )

    missing.__name__ = name
    return missing


def get_compiler_version() -> str:
    """Shown by the environment report of mmcv."""
    return 'none (operators of torchvision)'


get_compiling_cuda_version = get_compiler_version


# Boxes: NMS and its relatives -----------------------------------------------------------------


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Returns the kept indices, best score first; among equal scores the first box wins."""
    boxes, scores = _upcast(boxes), _upcast(scores)
    if offset:
        # The width x2 - x1 + offset, everywhere it occurs, is that of a box whose far corner is
        # moved by the offset.
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return _torchvision().nms(boxes, scores.to(boxes.dtype), iou_threshold)


def _iou_with_one(box: Tensor, others: Tensor, offset: int) -> Tensor:
    """IoU of one box (4, ) with others (N, 4)."""
    top_left = torch.maximum(box[:2], others[:, :2])
    bottom_right = torch.minimum(box[2:], others[:, 2:])
    overlap = (bottom_right - top_left + offset).clamp(min=0).prod(dim=1)
    area = (box[2:] - box[:2] + offset).prod()
    areas = (others[:, 2:] - others[:, :2] + offset).prod(dim=1)
    return overlap / (area + areas - overlap)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Fills `dets` (N, 5) with boxes and decayed scores in the order they are picked.

    Method 0 drops a box that overlaps a better one, 1 lowers its score by 1 - IoU, 2 by a
    Gaussian of the IoU.

    Returns:
        The indices picked; only as many rows of `dets` are filled.
    """
    boxes, scores = _upcast(boxes), _upcast(scores).clone()
    alive = torch.arange(len(boxes), device=boxes.device)
    picked: list[Tensor] = []
    while len(alive):
        best = scores[alive].argmax()
        index = alive[best]
        dets[len(picked), :4] = boxes[index]
        dets[len(picked), 4] = scores[index]
        picked.append(index)
        alive = torch.cat([alive[:best], alive[best + 1 :]])
        iou = _iou_with_one(boxes[index], boxes[alive], offset)
        if method == 2:
            decay = torch.exp(-(iou**2) / sigma)
        else:
            decay = torch.where(iou >= iou_threshold, 1 - iou if method == 1 else 0.0, 1.0)
        scores[alive] *= decay
        alive = alive[scores[alive] >= min_score]
    return torch.stack(picked) if picked else alive


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Groups each kept box with those it suppresses, all in the order of their scores."""
    dets = _upcast(dets)
    order = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(order):
        best, order = order[0], order[1:]
        matched = _iou_with_one(dets[best, :4], dets[order, :4], 0) >= iou_threshold
        groups.append([int(best)] + order[matched].tolist())
        order = order[~matched]
    return groups


# RoIAlign -------------------------------------------------------------------------------------


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
    features = _upcast(input)
    output.copy_(
        _torchvision().roi_align(
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
    grad = _upcast(grad_output)
    if grad.is_cuda:  # as torchvision's own backward pass, which calls this operator
        alert_not_deterministic('roi_align_backward_kernel')
    grad_input.copy_(
        _torchvision()._roi_align_backward(
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


# Focal losses ---------------------------------------------------------------------------------


def _row_weight(weight: Tensor, target: Tensor) -> Tensor:
    """The class weight of each row (N, ), 1 where no weight was given.

    Background is the label one past the last class and has no weight: 1 is taken. (The compiled
    operator reads past the end of `weight` there.)
    """
    weight = _upcast(weight)
    if weight.numel() == 0:
        return weight.new_ones(len(target))
    foreground = (target >= 0) & (target < weight.numel())
    return torch.where(foreground, weight[target.clamp(0, weight.numel() - 1)], 1)


def _sigmoid_focal_terms(
    input: Tensor, target: Tensor, alpha: float, sign: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Negated class balance, log-probability and probability of the truth, each (N, C).

    All may be written to: detectors with dense heads have a hundred million logits. The balance of
    logits that are not of the target is multiplied by `sign`.
    """
    is_target = target[:, None] == torch.arange(input.size(1), device=input.device)
    logits = torch.where(is_target, input, -input)
    log_prob = logsigmoid(logits)
    balance = torch.full_like(logits, sign * (alpha - 1)).masked_fill_(is_target, -alpha)
    return balance, log_prob, logits.sigmoid_()


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fills `output` (N, C) with `-alpha_t * (1 - p_t) ** gamma * log(p_t)`."""
    loss, log_prob, prob = _sigmoid_focal_terms(_upcast(input), target, alpha, 1)
    rest = prob.neg_().add_(1)
    loss.mul_(rest.pow_(gamma)).mul_(log_prob)
    output.copy_(loss.mul_(_row_weight(weight, target)[:, None]))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fills `grad_input` (N, C) with the derivative of the loss by the logits."""
    grad, log_prob, prob = _sigmoid_focal_terms(_upcast(input), target, alpha, -1)
    # With q = 1 - p_t: d(q^gamma log p_t)/dz = q^gamma (q - gamma p_t log p_t), z = +-logit.
    slope = log_prob.mul_(prob).mul_(-gamma)
    rest = prob.neg_().add_(1)
    slope.add_(rest)
    grad.mul_(rest.pow_(gamma)).mul_(slope)
    grad_input.copy_(grad.mul_(_row_weight(weight, target)[:, None]))


def _softmax_focal_terms(softmax: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the target (N, ) and its logarithm; rows of label -1 count for nothing."""
    prob = softmax.gather(1, target.clamp(min=0)[:, None]).squeeze(1)
    # A probability that underflowed to 0 has no logarithm.
    return prob, prob.clamp(min=torch.finfo(torch.float32).tiny).log()


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fills `output` (N, ); `input` (N, C) already went through the softmax."""
    prob, log_prob = _softmax_focal_terms(_upcast(input), target)
    loss = -alpha * (1 - prob) ** gamma * log_prob
    output.copy_(torch.where(target >= 0, loss * _row_weight(weight, target), 0))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fills `grad_input` (N, C) with the derivative by the logits before the softmax."""
    softmax = _upcast(input)
    prob, log_prob = _softmax_focal_terms(softmax, target)
    rest = 1 - prob
    # dL/dp * p; the softmax contributes p (1[c = target] - p_c).
    by_prob = alpha * (gamma * rest ** (gamma - 1) * prob * log_prob - rest**gamma)
    by_prob = torch.where(target >= 0, by_prob * _row_weight(weight, target), 0)
    is_target = target[:, None] == torch.arange(softmax.size(1), device=softmax.device)
    grad_input.copy_(by_prob[:, None] * (is_target.to(softmax.dtype) - softmax))
