"""Masks in COCO's compressed form, of which a part is decoded."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def cut_out(rle: dict[str, Any]) -> tuple[np.ndarray, int, int]:
    """Returns a mask as far as it reaches, (h, w), and its top and left; nothing of an empty one.

    pycocotools decodes a mask as large as its image, which takes a second of a very large one.
    """
    height = rle['size'][0]
    left, top, wide, high = (int(number) for number in coco_mask.toBbox(rle))
    edges = np.cumsum(run_lengths(rle['counts'])) - left * height
    flips: np.ndarray = np.zeros(wide * height, bool)
    np.logical_xor.at(flips, edges[edges < flips.size], True)
    # Column by column: (w * H,) -> (w, H) -> (h, w)
    columns = np.logical_xor.accumulate(flips).reshape(wide, height)
    return columns.T[top : top + high].astype(np.uint8), top, left


def run_lengths(counts: bytes) -> list[int]:
    """Returns the lengths of the runs of zeros and ones in turn, as `rleFrString` of COCO's API.

    A number has five bits a character, the lowest first, and a sixth says that it goes on; from the
    fourth on, it is the difference to the last but one.
    """
    lengths: list[int] = []
    number = shift = 0
    for character in counts:
        bits = character - 48
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # its sign
            number -= 1 << shift
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
        number = shift = 0
    return lengths
