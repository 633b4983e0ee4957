"""Operations that map each grey level to another: one look-up in place of arithmetic on pixels."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

LEVELS = np.arange(256, dtype=np.uint8)


def map_levels(transform: Callable[[dict[str, Any]], dict[str, Any]], image: np.ndarray) -> Any:
    """Applies a step that changes each pixel by its own level alone.

    Args:
        transform: The step, as libraries call it; it is given all levels as an image.
        image: (H, W, C), uint8.

    Returns:
        The image it makes, the one given where it changes nothing.
    """
    # (256, 1, 3), as steps may expect colours
    ramp = np.repeat(LEVELS[:, None, None], 3, axis=2)
    table = transform({'img': ramp})['img']
    return image if table is ramp else cv2.LUT(image, np.ascontiguousarray(table[..., 0]))


def contrast_table(image: np.ndarray, factor: float) -> np.ndarray:
    """Returns what mmcv's `adjust_contrast` makes of each level of an image, (H, W, 3) BGR."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    mean = round(cv2.sumElems(grey)[0] / grey.size)
    levels = LEVELS.astype(np.float32)
    mixed = cv2.addWeighted(levels, factor, np.full_like(levels, mean), 1 - factor, 0)
    return np.clip(mixed, 0, 255).astype(np.uint8)


def auto_contrast_tables(image: np.ndarray) -> np.ndarray:
    """Returns what mmcv's `auto_contrast` makes of each level, (256, 1, 3), by channel."""
    tables = []
    for channel in cv2.split(image):
        low, high, _, _ = cv2.minMaxLoc(channel)
        if low < high:
            scale = 255.0 / (high - low)
            tables.append(np.clip(LEVELS * scale - low * scale, 0, 255).astype(np.uint8))
        else:
            tables.append(LEVELS)
    return np.stack(tables, axis=-1)[:, None]


def equalize_tables(image: np.ndarray) -> np.ndarray:
    """Returns what mmcv's `imequalize` makes of each level, (256, 1, 3), by channel."""
    tables = []
    for channel in range(3):
        # counts are whole numbers, which float32 holds up to 16 million pixels
        counts = cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
        step = (counts.sum() - counts[np.nonzero(counts)[0][-1]]) // 255
        if step:
            table = (np.cumsum(counts) + step // 2) // step
            tables.append(np.minimum(np.r_[0, table[:-1]], 255).astype(np.uint8))
        else:
            tables.append(LEVELS)
    return np.stack(tables, axis=-1)[:, None]
