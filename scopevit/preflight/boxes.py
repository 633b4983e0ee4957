"""Boxes that cannot be meant as they are."""

from collections.abc import Iterator

import numpy as np

from scopevit.boxes import FAR, are_corners, clip, reach_far_out, shown
from scopevit.preflight.findings import Finding, Level
from scopevit.preflight.samples import SHOWN_FILES, Part

# Large data sets have a few boxes that somebody drew wrongly; more are a mistake of a converter.
FEW = 0.01
SHARES, CORNERS = OTHER_NUMBERS = ('boxes in shares', 'boxes look like xyxy')
LEAST_SIDE = 1  # pixels; mmdet leaves smaller ones out


def check_boxes(part: Part) -> Iterator[Finding]:
    """Yields what is wrong with the boxes of a part."""
    if part.boxes is None or not len(part.boxes):
        return
    boxes, sizes = part.boxes, part.box_sizes
    broken = ~np.isfinite(boxes).all(1)
    if broken.any():
        text = f'{part.ann_file}: an annotation of {first(part, broken)} has no box of four numbers'
        yield finding('error', 'boxes that are none', part, broken, text)
    known = ~broken & (sizes > 0).all(1)
    if not known.any():
        return
    is_share = (boxes[known] >= 0) & (boxes[known] <= 1)
    if is_share.all() and boxes[known].any():
        text = (
            f'{first(part, known)}: box {shown(boxes[known][0])} is within one pixel, as all are: '
            'shares of the image in the place of pixels?'
        )
        yield finding('error', SHARES, part, known, text)
    elif are_corners(boxes[known], sizes[known]):
        far = np.zeros(len(boxes), bool)
        far[known] = reach_far_out(boxes[known], sizes[known])
        text = (
            f'{describe(part, far)} reaches out of {size(part, far)}; it looks like x1, y1, x2, '
            'y2, where x, y, width, height is meant'
        )
        yield finding('error', CORNERS, part, far, text)
    else:
        yield from check_places(part, known)


def check_places(part: Part, known: np.ndarray) -> Iterator[Finding]:
    """Yields boxes without area, outside of their images and across the border."""
    assert part.boxes is not None
    boxes, sizes = part.boxes, part.box_sizes
    empty = known & (boxes[:, 2:] <= 0).any(1)
    if empty.any():
        text = f'{describe(part, empty)} has no area; it is left out'
        yield finding(level(empty, known), 'boxes without area', part, empty, text)
    inside = clip(boxes, sizes)
    outside = known & ~empty & (inside[:, 2:] <= 0).any(1)
    if outside.any():
        text = f'{describe(part, outside)} lies outside of {size(part, outside)}'
        yield finding(level(outside, known), 'boxes outside the image', part, outside, text)
    rest = known & ~empty & ~outside
    far = rest & (reach_far_out(boxes, sizes) | (boxes[:, :2] < -FAR * sizes).any(1))
    if far.any():
        text = f'{describe(part, far)} reaches out of {size(part, far)}'
        yield finding('warning', 'boxes across the border', part, far, text)
    # mmdet asks for a whole pixel each way, and for an area in the file.
    small = rest & (boxes[:, 2:] < LEAST_SIDE).any(1)
    if small.any() and part.scope == 'mmdet':
        text = f'{describe(part, small)} is less than a pixel wide or high; mmdet leaves it out'
        yield finding(level(small, known), 'boxes below a pixel', part, small, text)
    if part.coco is not None and part.scope == 'mmdet':
        blank = rest & (part.coco.areas[part.coco.owners >= 0] <= 0)
        if blank.any():
            text = f'{describe(part, blank)} has area 0 in {part.ann_file}; mmdet leaves it out'
            yield finding(level(blank, known), 'area 0', part, blank, text)


def check_filter(part: Part) -> Iterator[Finding]:
    """Yields images that `filter_cfg` leaves out of a training with boxes."""
    settings = part.cfg.get('filter_cfg') or {}
    if part.boxes is None or part.cfg.get('test_mode') or not settings or not len(part.files):
        return
    least = settings.get('min_size', 0)
    if not isinstance(least, (int, float)):
        yield Finding(
            'error', 'filter', part.split, 1,
            f'{part.key}.filter_cfg.min_size must be a number of pixels, not {least!r}'
        )  # fmt: skip
        return
    large = part.sizes.min(1) >= least
    kept = large.copy()
    if settings.get('filter_empty_gt'):
        kept &= np.isin(np.arange(len(part.files)), part.owners[part.labels >= 0])
    place = f'{part.key}.filter_cfg'
    if not kept.any():
        text = f'{place}={dict(settings)} leaves no image'
        yield Finding('error', 'filter leaves nothing', part.split, len(kept), text)
    elif not large.all():
        files = tuple(part.files[i] for i in np.flatnonzero(~large)[:SHOWN_FILES])
        text = f'{files[0]} is smaller than {place}.min_size={least}; it is left out'
        yield Finding('note', 'images filtered', part.split, int((~large).sum()), text, files)


def level(chosen: np.ndarray, known: np.ndarray) -> Level:
    """Returns what boxes amount to that are wrong: a few of many are a warning."""
    return 'warning' if chosen.sum() < FEW * known.sum() else 'error'


def finding(grade: Level, what: str, part: Part, chosen: np.ndarray, text: str) -> Finding:
    """Returns a finding about the annotations that are chosen, (M,) bool."""
    return Finding(grade, what, part.split, int(chosen.sum()), text, part.images(chosen))


def first(part: Part, chosen: np.ndarray) -> str:
    """Returns the image of the first annotation that is chosen."""
    return part.image(int(chosen.argmax()))


def describe(part: Part, chosen: np.ndarray) -> str:
    """Returns image and box of the first annotation that is chosen."""
    assert part.boxes is not None
    return f'{first(part, chosen)}: box {shown(part.boxes[chosen.argmax()])} (x, y, width, height)'


def size(part: Part, chosen: np.ndarray) -> str:
    """Returns the size of the image of the first annotation that is chosen."""
    width, height = part.box_sizes[chosen.argmax()]
    return f'the image of {width:g}x{height:g} pixels'
