"""How far the answers of two runtimes are apart."""

from collections.abc import Mapping

import numpy as np

LIMIT = 1e-4  # relative to the largest number
LEAST_SHARE = 0.999  # of pixels with the same class
LEAST_MATCHED = 0.98  # of objects: those at a threshold may fall to either side
MIN_IOU = 0.99

Answers = Mapping[str, np.ndarray]


def compare(expected: Answers, found: Answers) -> dict[str, float]:
    """Returns the deviations of answers by name; see `problem`."""
    if 'boxes' in expected:
        return compare_objects(expected, found)
    deviations = {}
    for name, array in expected.items():
        if array.shape != found[name].shape:
            deviations[f'{name}: other shape'] = float('inf')
        elif array.dtype == np.uint8:
            deviations[f'{name}: share of equal pixels'] = float((array == found[name]).mean())
        else:
            deviations[f'{name}: relative deviation'] = relative(array, found[name])
    return deviations


def relative(expected: np.ndarray, found: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest number."""
    if not expected.size:
        return 0.0
    difference = np.abs(expected.astype(np.float64) - found).max()
    return float(difference / max(np.abs(expected).max(), 1e-12))


def compare_objects(expected: Answers, found: Answers) -> dict[str, float]:
    """Matches objects of one class whose boxes are nearly the same, and compares those."""
    pairs = match(expected, found)
    count = max(len(expected['scores']), len(found['scores']))
    deviations = {'objects: share of matched ones': len(pairs) / count if count else 1.0}
    own, other = (list(side) for side in zip(*pairs)) if pairs else ([], [])
    for name in ('boxes', 'scores'):
        key = f'{name}: relative deviation'
        deviations[key] = relative(expected[name][own], found[name][other])
    if 'masks' in expected and pairs:
        same = expected['masks'][own] == found['masks'][other]
        deviations['masks: share of equal pixels'] = float(same.mean())
    return deviations


def match(expected: Answers, found: Answers) -> list[tuple[int, int]]:
    """Returns pairs of objects, each at most once, the best boxes first."""
    iou = box_iou(expected['boxes'], found['boxes'])
    iou = np.where(expected['labels'][:, None] == found['labels'], iou, 0)
    pairs, taken = [], set()
    for i in range(len(iou)):
        free = [j for j in np.argsort(-iou[i]) if j not in taken and iou[i, j] >= MIN_IOU]
        # Of boxes that are alike, that with the nearest score.
        if free:
            j = min(free, key=lambda j: abs(expected['scores'][i] - found['scores'][j]))
            taken.add(j)
            pairs.append((i, int(j)))
    return pairs


def box_iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns intersection over union of boxes, (N, M)."""
    a, b = one[:, None].astype(np.float64), other[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = sides.clip(0).prod(-1)
    either = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both
    return both / np.maximum(either, 1e-9)


def problem(deviations: Mapping[str, float]) -> str | None:
    """Returns what of deviations is too much; None where nothing is."""
    for name, value in deviations.items():
        least = LEAST_MATCHED if 'matched' in name else LEAST_SHARE
        is_good = value >= least if 'share' in name else value <= LIMIT
        if not is_good:  # NaN is not, either
            limit = f'at least {least}' if 'share' in name else f'at most {LIMIT}'
            return f'{name} {value:.3g}, {limit} is asked for'
    return None
