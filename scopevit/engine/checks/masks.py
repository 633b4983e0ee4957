"""Masks of COCO's annotations, before pycocotools reads them: it does so without looking."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

FARTHEST = 1e6  # pixels; it fills outlines of any length


def check_masks(annotations: Iterable[dict[str, Any]], sizes: Sequence[Any]) -> None:
    """Checks the masks of annotations.

    Args:
        annotations: Of a COCO file.
        sizes: Height and width of the image of each; None where they are not known.

    Raises:
        ValueError: If one is neither outlines nor runs that fill its image.
    """
    for annotation, size in zip(annotations, sizes, strict=True):
        mask = annotation.get('segmentation')
        if not mask:
            continue
        problem = of_runs(mask, size) if isinstance(mask, dict) else of_outlines(mask)
        if problem:
            raise ValueError(f'segmentation of annotation {annotation.get("id")}: {problem}')


def of_outlines(outlines: Any) -> str | None:
    """Returns what is wrong with outlines, lists of x and y, as far as it does harm.

    The libraries leave out those that are too short or have no y at the end.
    """
    if not isinstance(outlines, list):
        return 'it must be a list of outlines, or an RLE'
    for line in outlines if isinstance(outlines[0], list) else [outlines]:
        # bool is an int, too, but no coordinate.
        if not isinstance(line, list) or not set(map(type, line)) <= {int, float}:
            return 'an outline must be x and y in turn'
        # A sum with NaN is NaN. By functions in C, for files of millions; the largest first, which
        # may be a whole number that no float can be.
        if line and not (max(map(abs, line)) <= FARTHEST and math.isfinite(sum(line))):
            return f'an outline goes beyond {FARTHEST:.0f} pixels'
    return None


def of_runs(mask: dict[str, Any], size: Any) -> str | None:
    """Returns what is wrong with an RLE; `size`: height and width of its image."""
    given = mask.get('size')
    if not isinstance(given, list) or len(given) != 2 or not are_whole(given):
        return f'size of an RLE must be height and width, not {given!r}'
    if min(given) < 1 or (size is not None and list(size) != given):
        return f'size of the RLE is {given}, that of the image {size}'
    counts = mask.get('counts')
    if isinstance(counts, str):
        try:
            runs = decode(counts)
        except ValueError:
            return 'counts of the RLE end too early, or are none'
    elif isinstance(counts, list) and are_whole(counts):
        # Before they become numbers of 64 bits.
        runs = np.array([int(n) if abs(n) <= math.prod(given) else -1 for n in counts])
    else:
        return 'an RLE must have counts'
    if (runs < 0).any():
        return 'counts of the RLE are not those of its size'
    if runs.sum() != math.prod(given):
        return f'counts of the RLE fill {int(runs.sum())} pixels, its size is {given}'
    return None


def are_whole(values: list[Any]) -> bool:
    """Whether all values are whole numbers, and there are some."""
    return (
        set(map(type, values)) <= {int, float} and all(v % 1 == 0 for v in values) and values != []
    )


def decode(text: str) -> np.ndarray:
    """Returns the lengths of the runs in COCO's compressed RLE.

    Each is written in groups of five bits, the lowest first, with the sixth for "goes on", as its
    difference from the last but one (Lin et al., COCO API, `rleToString`).

    Raises:
        ValueError: If it is none.
    """
    groups = np.frombuffer(text.encode('ascii'), np.uint8).astype(np.int64) - 48
    goes_on = (groups & 0x20).astype(bool)
    if not len(groups) or groups.min() < 0 or groups.max() > 63 or goes_on[-1]:
        raise ValueError('no RLE')
    ends = np.flatnonzero(~goes_on)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 6:  # 30 bits, more than an image has
        raise ValueError('a run too long')
    shifts = 5 * (np.arange(len(groups)) - np.repeat(starts, lengths))
    values = np.add.reduceat((groups & 0x1F) << shifts, starts)
    negative = (groups[ends] & 0x10).astype(bool)
    values -= negative * (1 << 5 * lengths)
    # From the fourth on, differences: those at odd places add up, and those at even ones but 0.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
