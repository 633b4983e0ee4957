"""NMS and its relatives, of boxes (x1, y1, x2, y2)."""

import torch
from torch import Tensor

from ._shared import torchvision_operators, upcast


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Returns the kept indices, best score first; among equal scores the first box wins."""
    boxes, scores = upcast(boxes), upcast(scores)
    if offset:
        # The width x2 - x1 + offset, everywhere it occurs, is that of a box whose far corner is
        # moved by the offset.
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return torchvision_operators().nms(boxes, scores.to(boxes.dtype), iou_threshold)


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
    boxes, scores = upcast(boxes), upcast(scores).clone()
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
    dets = upcast(dets)
    order = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(order):
        best, order = order[0], order[1:]
        matched = _iou_with_one(dets[best, :4], dets[order, :4], 0) >= iou_threshold
        groups.append([int(best)] + order[matched].tolist())
        order = order[~matched]
    return groups


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Fills `ious` (N, M), or (N, ) of boxes in pairs if `aligned`.

    Mode 0 divides the intersection by the union, 1 by the area of the first box; boxes of no area
    give NaN, as in mmcv.

    Args:
        bboxes1: (N, 4).
        bboxes2: (M, 4).
        ious: Filled.
        mode: 0 or 1.
        aligned: Whether box i of the first goes with box i of the second alone.
        offset: Of widths and heights, 0 or 1.
    """
    first, second = upcast(bboxes1), upcast(bboxes2)
    areas = [(b[:, 2:] - b[:, :2] + offset).prod(dim=1) for b in (first, second)]
    if not aligned:
        first, areas[0] = first[:, None], areas[0][:, None]
    # Side by side: of both at once, maps of N times M would be made twice as large.
    sides = [
        torch.minimum(first[..., axis + 2], second[:, axis + 2])
        .sub_(torch.maximum(first[..., axis], second[:, axis]))
        .add_(offset)
        .clamp_(min=0)
        for axis in (0, 1)
    ]
    overlap = sides[0].mul_(sides[1])
    ious.copy_(overlap / (areas[0] if mode else areas[0] + areas[1] - overlap))
