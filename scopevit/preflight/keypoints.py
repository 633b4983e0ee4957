"""Keypoints that are missing, too many or elsewhere."""

from collections.abc import Iterator

import numpy as np

from scopevit.boxes import shown
from scopevit.preflight.boxes import finding, first, size
from scopevit.preflight.findings import Finding, Level
from scopevit.preflight.samples import Part


def check_keypoints(part: Part) -> Iterator[Finding]:
    """Yields what is wrong with the keypoints of a part."""
    if part.scope != 'mmpose' or part.coco is None or part.cfg.get('bbox_file'):
        return
    expected = len(part.classes)
    lengths = dict(part.coco.keypoint_lengths)
    wrong = {n: count for n, count in lengths.items() if expected and n != 3 * expected}
    if wrong:
        text = (
            f'{next(iter(wrong)) / 3:g} keypoints a person in {part.ann_file}, but the metainfo of '
            f'{part.key} lists {expected}'
        )
        count = sum(wrong.values())
        yield Finding('error', 'keypoints of wrong length', part.split, count, text)
        return
    broken = part.coco.broken_keypoints
    if broken:
        text = f'{part.ann_file}: keypoints of annotation {broken[0]} must be finite numbers'
        yield Finding('error', 'keypoints that are none', part.split, len(broken), text)
        return
    points = part.keypoints
    if points is None:
        if len(part.owners):
            text = f'{part.ann_file}: no annotation has keypoints, which pose takes'
            yield Finding('error', 'no keypoints', part.split, len(part.owners), text)
        return
    seen: np.ndarray = points[..., 2] > 0  # (M, K); NaN is not
    if not seen.any():
        text = (
            f'{part.ann_file}: no keypoint is visible (every third number is 0): there is nothing '
            'to learn'
        )
        yield Finding('error', 'no visible keypoint', part.split, len(points), text)
        return
    told = part.coco.point_counts[part.coco.owners >= 0]
    if (told == 0).all():
        text = (
            f'{part.ann_file}: num_keypoints of every annotation is 0, so mmpose leaves all out: '
            'count the visible ones, or remove it'
        )
        yield Finding('error', 'num_keypoints 0', part.split, len(points), text)
        return
    bare = ~np.asarray(seen.any(1))
    if bare.any():
        text = f'{first(part, bare)}: nothing of an annotation is visible; it is left out'
        yield finding('note', 'no visible keypoint', part, bare, text)
    yield from check_places(part, points, seen)


def check_places(part: Part, points: np.ndarray, seen: np.ndarray) -> Iterator[Finding]:
    """Yields keypoints, (M, K, 3), outside of their images; `seen` is (M, K)."""
    known = np.asarray((part.box_sizes > 0).all(1))
    sizes = part.box_sizes[:, None]  # (M, 1, 2)
    beyond = (points[..., :2] < 0) | (points[..., :2] > sizes)  # (M, K, 2)
    out: np.ndarray = np.asarray(seen & beyond.any(2) & known[:, None])
    if out.any():
        row, k = (int(i) for i in np.argwhere(out)[0])
        chosen = np.isin(np.arange(len(out)), np.flatnonzero(out) // out.shape[1])
        name = part.classes[k] if part.classes else f'keypoint {k}'
        text = (
            f'{first(part, chosen)}: {name} at {shown(points[row, k, :2])} lies outside of '
            f'{size(part, chosen)}'
        )
        grade: Level = 'error' if out.sum() > 0.5 * seen.sum() else 'warning'
        yield finding(grade, 'keypoints outside the image', part, chosen, text)
