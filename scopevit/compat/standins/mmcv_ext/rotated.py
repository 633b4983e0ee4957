"""Overlaps and NMS of rotated boxes and of convex quadrilaterals.

Points and polygons are kept as (2, ..., pairs), x and y first, so that all pairs are computed side
by side.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._shared import upcast

_PAIRS_AT_ONCE = 2**16  # of polygons cut, some 40 MB
_CELLS_AT_ONCE = 2**22  # of the table of pairs searched for overlaps


class _Polygons(NamedTuple):
    """N quadrilaterals whose corners go round the same way."""

    center: Tensor  # (2, N)
    corners: Tensor  # from the centre (2, 4, N)
    area: Tensor  # (N, )

    def select(self, index: Tensor) -> '_Polygons':
        return _Polygons(*(tensor[..., index] for tensor in self))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[0] * b[1] - a[1] * b[0]


def _of_quadrilaterals(boxes: Tensor) -> _Polygons:
    """From corners (N, 8)."""
    corners = upcast(boxes).view(-1, 4, 2).permute(2, 1, 0)  # (N, 4, 2) -> (2, 4, N)
    center = corners.mean(dim=1)
    corners = corners - center[:, None]
    area = _cross(corners, corners.roll(-1, 1)).sum(0) / 2
    return _Polygons(center, torch.where(area < 0, corners.flip(1), corners), area.abs())


def _of_rotated_boxes(boxes: Tensor) -> _Polygons:
    """From centre, width, height and clockwise angle in radians (N, 5), y pointing down."""
    x, y, width, height, angle = upcast(boxes).unbind(1)
    cos, sin = angle.cos(), angle.sin()
    along = torch.stack([cos, sin]) * (width / 2)
    across = torch.stack([-sin, cos]) * (height / 2)
    corners = [-along - across, along - across, along + across, across - along]
    return _Polygons(torch.stack([x, y]), torch.stack(corners, dim=1), width * height)


def _clip(start: Tensor, end: Tensor, corner: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
    """Cuts off what lies beyond a line.

    A polygon is a set of directed segments here. Of those cut off, a segment without length is
    left, which adds nothing to an area; one more closes the polygon along the line. Segments
    share the numbers of their ends, hence agree on which side a point lies, however it is rounded.

    Args:
        start: First points of S segments (2, S, P).
        end: Their last points (2, S, P).
        corner: A point of the line (2, P).
        edge: Its direction; what lies to its left as x turns to y is kept (2, P).

    Returns:
        Start and end of S + 1 segments.
    """
    side_of_start = _cross(edge, start - corner[:, None])
    side_of_end = _cross(edge, end - corner[:, None])
    keeps_start, keeps_end = side_of_start >= 0, side_of_end >= 0
    leaves, enters = keeps_start & ~keeps_end, keeps_end & ~keeps_start
    share = torch.where(leaves | enters, side_of_start / (side_of_start - side_of_end), 0)
    cut = torch.lerp(start, end, share)
    # A convex polygon leaves and enters at most once; if never, both are the same point.
    closing = [
        cut.gather(1, crossing.byte().argmax(0).expand(2, 1, -1)) for crossing in (leaves, enters)
    ]
    start = torch.cat([torch.where(keeps_start, start, cut), closing[0]], dim=1)
    end = torch.cat([torch.where(keeps_end, end, cut), closing[1]], dim=1)
    return start, end


def _overlap_of_pairs(first: _Polygons, second: _Polygons, of_first: bool) -> Tensor:
    """Intersection over union, or over the area of the first, of P pairs (P, ).

    Zero where either has no area.
    """
    # Seen from the centre of the first, where numbers are small.
    start = first.corners
    end = start.roll(-1, 1)
    corners = second.corners + (second.center - first.center)[:, None]
    edges = corners.roll(-1, 1) - corners
    for corner, edge in zip(corners.unbind(1), edges.unbind(1)):
        start, end = _clip(start, end, corner, edge)
    overlap = _cross(start, end).sum(0) / 2
    overlap = overlap.clamp(min=0).minimum(first.area).minimum(second.area)
    base = first.area if of_first else first.area + second.area - overlap
    has_area = (first.area >= 1e-14) & (second.area >= 1e-14)
    return torch.where(has_area, overlap / base, 0)


def _pairs_that_may_meet(
    first: _Polygons, second: _Polygons, only_later: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices of pairs whose upright bounds meet, the first ascending, some at a time.

    Args:
        first: N polygons.
        second: M polygons.
        only_later: Leaves pairs out whose second index is not above the first.
    """
    low, high = (
        [center + bound for center, bound in zip((first.center, second.center), bounds)]
        for bounds in (
            (first.corners.amin(1), second.corners.amin(1)),
            (first.corners.amax(1), second.corners.amax(1)),
        )
    )
    columns = torch.arange(len(second.area), device=second.area.device)
    rows = torch.arange(len(first.area), device=first.area.device)
    for row in rows.split(max(1, _CELLS_AT_ONCE // max(1, len(columns)))):
        meets = (low[0][:, row, None] <= high[1][:, None]).all(0)
        meets &= (high[0][:, row, None] >= low[1][:, None]).all(0)
        if only_later:
            meets &= columns > row[:, None]
        i, j = meets.nonzero().unbind(1)
        yield from zip(row[i].split(_PAIRS_AT_ONCE), j.split(_PAIRS_AT_ONCE))


def _fill_overlaps(
    first: _Polygons, second: _Polygons, ious: Tensor, of_first: bool, aligned: bool
) -> None:
    """Fills `ious`, of pairs (N, ) if aligned, else of each with each (N * M, )."""
    if aligned:
        for pair in torch.arange(len(ious), device=ious.device).split(_PAIRS_AT_ONCE):
            ious[pair] = _overlap_of_pairs(first.select(pair), second.select(pair), of_first).to(
                ious.dtype
            )
        return
    ious.zero_()
    for i, j in _pairs_that_may_meet(first, second, only_later=False):
        values = _overlap_of_pairs(first.select(i), second.select(j), of_first)
        ious[i * len(second.area) + j] = values.to(ious.dtype)


def _nms(polygons: _Polygons, order: Tensor, iou_threshold: float) -> Tensor:
    """Kept indices; a polygon goes whose IoU with one kept before it exceeds the threshold.

    Args:
        polygons: N polygons, best first.
        order: Their indices (N, ), of which those kept are returned.
        iou_threshold: The largest IoU of two that are kept.
    """
    first, second = [], []
    for i, j in _pairs_that_may_meet(polygons, polygons, only_later=True):
        over = (
            _overlap_of_pairs(polygons.select(i), polygons.select(j), of_first=False)
            > iou_threshold
        )
        first.append(i[over].numpy(force=True))
        second.append(j[over].numpy(force=True))
    alive = np.ones(len(order), dtype=bool)
    if first:
        victims = np.concatenate(second)
        bounds = np.searchsorted(np.concatenate(first), np.arange(len(order) + 1))
        for best, (begin, end) in enumerate(zip(bounds, bounds[1:])):
            if alive[best]:
                alive[victims[begin:end]] = False
    return order[torch.from_numpy(alive).to(order.device)]


def box_iou_rotated(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool
) -> None:
    """Fills `ious` for boxes (x, y, width, height, angle), the angle clockwise in radians.

    Args:
        boxes1: (N, 5).
        boxes2: (M, 5).
        ious: (N, ) if aligned, else (N * M, ).
        mode_flag: 0 for intersection over union, 1 over the area of the first.
        aligned: Takes the boxes in pairs, not each with each.
    """
    first, second = _of_rotated_boxes(boxes1), _of_rotated_boxes(boxes2.to(boxes1.dtype))
    _fill_overlaps(first, second, ious, mode_flag == 1, aligned)


def box_iou_quadri(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool
) -> None:
    """Fills `ious` for convex quadrilaterals (x1, y1, ..., x4, y4), as `box_iou_rotated`."""
    first, second = _of_quadrilaterals(boxes1), _of_quadrilaterals(boxes2.to(boxes1.dtype))
    _fill_overlaps(first, second, ious, mode_flag == 1, aligned)


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Returns the kept indices, best score first.

    Args:
        dets: Boxes (N, 5), or (N, 6) with their labels.
        scores: (N, ).
        order: Indices by falling score (N, ).
        dets_sorted: `dets` in that order.
        labels: Empty, or (N, ).
        iou_threshold: The largest IoU of two boxes that are kept.
        multi_label: Whether there are labels. Boxes of two labels suppress each other all the
            same, as in the compiled operator; `batched_nms` is what keeps them apart.
    """
    return _nms(_of_rotated_boxes(dets_sorted[:, :5]), order, iou_threshold)


def nms_quadri(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Returns the kept indices of convex quadrilaterals (N, 8), as `nms_rotated` does."""
    return _nms(_of_quadrilaterals(dets_sorted[:, :8]), order, iou_threshold)
