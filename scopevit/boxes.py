"""Boxes, x, y, width and height, against the images that they are in."""

from collections.abc import Iterable

import numpy as np

FAR = 0.05  # share of a side by which no box that is meant as xywh reaches out of its image
# Where corners stand for width and height, most boxes reach far out, and all fit as corners but
# for a few that are wrong in themselves.
LEAST_FAR = 0.1
LEAST_CORNERS = 0.99


def reach_far_out(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns which boxes, (N, 4) xywh, reach far out of their images, (N, 2) width and height."""
    return (boxes[:, :2] + boxes[:, 2:] > sizes * (1 + FAR)).any(1)


def are_corners(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Returns whether boxes have corners, x1, y1, x2, y2, in the place of width and height."""
    if not len(boxes):
        return False
    far = reach_far_out(boxes, sizes)
    fits = ((boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= sizes + 1)).all(1)
    return bool(far.mean() >= LEAST_FAR and fits.mean() >= LEAST_CORNERS)


def clip(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns boxes, (N, 4) xywh, cut at the borders of their images, (N, 2)."""
    low = np.maximum(boxes[:, :2], 0)
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], sizes)
    return np.concatenate([low, high - low], axis=1)


def shown(box: Iterable[float]) -> list[float]:
    """Returns a box for people."""
    return [round(float(value), 1) for value in box]
