"""Bicubic shifts along one axis, as a filter of four pixels instead of sixteen a pixel.

OpenCV's `warpAffine`, of which the results are, knows no difference between a shift, a shear and a
rotation.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch

# OpenCV's parameter of the cubic; that of Pillow and torch's antialiased resizing is -0.5.
SHARPNESS = -0.75


def cubic_weights(fraction: np.ndarray) -> np.ndarray:
    """Returns the weights of four pixels in a row for a point after the second of them.

    Args:
        fraction: (...), how far after, from 0 to 1.

    Returns:
        (..., 4).
    """

    def near(x: np.ndarray) -> np.ndarray:  # of pixels up to 1 away
        return ((SHARPNESS + 2) * x - (SHARPNESS + 3)) * x * x + 1

    def far(x: np.ndarray) -> np.ndarray:  # of pixels 1 to 2 away
        return ((SHARPNESS * x - 5 * SHARPNESS) * x + 8 * SHARPNESS) * x - 4 * SHARPNESS

    t = np.asarray(fraction)
    return np.stack([far(1 + t), near(t), near(1 - t), far(2 - t)], axis=-1)


def translate(image: np.ndarray, offset: float, axis: int, fill: Sequence[float]) -> np.ndarray:
    """Moves an image, (H, W, 3) uint8, along axis 0 or 1 by an offset in pixels."""
    length = image.shape[axis]
    if abs(offset) >= length + 2:  # nothing of it is left
        return np.full_like(image, fill)
    start = int(np.floor(-offset))
    weights = cubic_weights(np.array(-offset - start))
    # from the pixel before the first point to the second after the last one
    first, last = start - 1, start + length + 2
    before, after = max(0, -first), max(0, last - length)
    borders = [(0, 0), (0, 0)]
    borders[axis] = before, after
    inside = slice(max(0, first), max(0, last))
    wanted = image[inside] if axis == 0 else image[:, inside]
    bordered = cv2.copyMakeBorder(wanted, *borders[0], *borders[1], cv2.BORDER_CONSTANT, value=fill)
    kernel = weights[:, None] if axis == 0 else weights[None]
    anchor = (0, 1) if axis == 0 else (1, 0)
    filtered = cv2.filter2D(bordered, -1, kernel, anchor=anchor)
    return filtered[1 : 1 + length] if axis == 0 else filtered[:, 1 : 1 + length]


def shear(image: np.ndarray, magnitude: float, axis: int, fill: Sequence[float]) -> np.ndarray:
    """Shears an image, (H, W, 3) uint8, along axis 0 or 1 by a magnitude in pixels a pixel."""
    if axis == 0:
        return cv2.transpose(shear(cv2.transpose(image), magnitude, 1, fill))
    height, width, channels = image.shape
    points = -magnitude * np.arange(height)
    starts = np.floor(points).astype(int)
    weights = torch.from_numpy(cubic_weights(points - starts).astype(np.float32))  # (H, 4)
    margin = int(np.abs(starts).max()) + 2
    bordered = cv2.copyMakeBorder(image, 0, 0, margin, margin, cv2.BORDER_CONSTANT, value=fill)
    # (H, W + 2 margin, C) -> (H, (W + 3) C): each row from the pixel before its first point
    windows = np.lib.stride_tricks.sliding_window_view(
        bordered.reshape(height, -1), (width + 3) * channels, axis=1
    )
    rows = torch.from_numpy(windows[np.arange(height), (margin + starts - 1) * channels]).float()
    size = width * channels
    mixed = rows[:, :size] * weights[:, :1]
    for k in (1, 2, 3):
        mixed.addcmul_(rows[:, k * channels :][:, :size], weights[:, k : k + 1])
    # rounds and takes what is out of range to the nearest level
    pixels = cv2.convertScaleAbs(mixed.clamp_(min=0).numpy())
    return pixels.reshape(height, width, channels)
