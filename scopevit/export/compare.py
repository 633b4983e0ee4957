"""How far the answers of two runtimes are apart."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

OVERLAP = 0.75  # of boxes that are taken for one object although their numbers differ
NEAR = 0.5  # pixels between the sides of boxes that are taken for one


@dataclass(frozen=True)
class Tolerance:
    """How far answers may be apart.

    Attributes:
        deviation: Of numbers, relative to the largest.
        least_same: Share of pixels with the same class.
        least_matched: Share of objects with a partner; those at a threshold fall to either side.
    """

    deviation: float = 1e-4
    least_same: float = 0.999
    least_matched: float = 0.98


EXACT = Tolerance()
HALF = Tolerance(deviation=1e-2, least_same=0.99, least_matched=0.9)  # weights of 11 bits
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
    own, other = [i for i, _ in pairs], [j for _, j in pairs]
    for name in ('boxes', 'scores'):
        key = f'{name}: relative deviation'
        deviations[key] = relative(expected[name][own], found[name][other])
    if 'masks' in expected and pairs:
        same = expected['masks'][own] == found['masks'][other]
        deviations['masks: share of equal pixels'] = float(same.mean())
    return deviations


def match(expected: Answers, found: Answers) -> list[tuple[int, int]]:
    """Returns pairs of objects of one class whose boxes lie near, each object at most once.

    By distance, not by overlap: boxes may be of no width.
    """
    # (N, 1, 4) - (M, 4) -> (N, M)
    distance = np.abs(expected['boxes'][:, None] - found['boxes']).max(axis=2, initial=0)
    is_near = (distance <= NEAR) & (expected['labels'][:, None] == found['labels'])
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for i, score in enumerate(expected['scores']):
        free = [int(j) for j in np.flatnonzero(is_near[i]) if int(j) not in taken]
        if free:  # of boxes that are alike, that with the nearest score
            j = min(free, key=lambda j: float(abs(score - found['scores'][j])))
            taken.add(j)
            pairs.append((i, j))
    return pairs


def share_of_matched_scores(expected: Answers, found: Answers) -> float:
    """Returns how much of all scores belongs to objects with a partner in the other answers.

    Partners are of one class, and overlap by `OVERLAP` or more.
    """
    total = expected['scores'].sum() + found['scores'].sum()
    if not total:
        return 1.0
    overlaps = box_iou(*(torch.from_numpy(one['boxes']) for one in (expected, found))).numpy()
    overlaps = overlaps * (expected['labels'][:, None] == found['labels'])  # (N, M)
    matched = expected['scores'][overlaps.max(1, initial=0) >= OVERLAP].sum()
    matched += found['scores'][overlaps.max(0, initial=0) >= OVERLAP].sum()
    return float(matched / total)


def problem(deviations: Mapping[str, float], allowed: Tolerance = EXACT) -> str | None:
    """Returns what of deviations is too much; None where nothing is."""
    for name, value in deviations.items():
        least = allowed.least_matched if 'matched' in name else allowed.least_same
        is_good = value >= least if 'share' in name else value <= allowed.deviation
        if not is_good:  # NaN is not, either
            limit = f'at least {least}' if 'share' in name else f'at most {allowed.deviation}'
            return f'{name} {value:.3g}, {limit} is asked for'
    return None
