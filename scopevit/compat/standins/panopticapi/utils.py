"""Loaded as `panopticapi.utils`: segment numbers as colours, red + 256 green + 65,536 blue."""

import numpy as np


def rgb2id(color: np.ndarray) -> np.ndarray:
    """Returns the numbers (H, W), int32, of a picture (H, W, 3), uint8."""
    red, green, blue = np.moveaxis(color.astype(np.int32), -1, 0)
    return red + 256 * green + 65536 * blue


def id2rgb(id_map: np.ndarray) -> np.ndarray:
    """Returns the picture (H, W, 3), uint8, of numbers (H, W)."""
    return np.stack([id_map >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
