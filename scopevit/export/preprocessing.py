"""What has to happen to an image before an exported file takes it, in plain terms."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scopevit.engine.walk import type_name

INTERPOLATION = 'bilinear'


def describe_steps(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the steps of a test pipeline for people without its library.

    A step that is none of the known ones is there as it stands in the config.
    """
    steps = [describe(dict(step)) for step in pipeline]
    return [step for step in steps if step is not None]


def describe(step: dict[str, Any]) -> dict[str, Any] | None:
    """Returns a step in plain terms; None of those that change no pixel."""
    name = type_name(step)
    how = {'interpolation': step.get('interpolation', INTERPOLATION)}
    match name:
        case 'Resize':
            scale = step.get('scale')
            width, height = scale if isinstance(scale, (list, tuple)) else (scale, scale)
            if step.get('keep_ratio'):
                return {
                    'step': 'resize, keeping the ratio of the sides, to the largest that fits',
                    'long side at most': max(width, height),
                    'short side at most': min(width, height),
                } | how
            return {'step': 'resize', 'width': width, 'height': height} | how
        case 'ResizeEdge':
            edge = step.get('edge', 'short')
            what = {'step': 'resize, keeping the ratio of the sides', f'{edge} side': step['scale']}
            return what | how
        case 'CenterCrop':
            size = step.get('crop_size')
            width, height = size if isinstance(size, (list, tuple)) else (size, size)
            return {'step': 'crop the middle', 'width': width, 'height': height}
        case 'GetBBoxCenterScale':
            return {
                'step': 'box: its centre, and its sides times a factor',
                'factor': step.get('padding', 1.25),
            }
        case 'TopdownAffine':
            width, height = step['input_size']
            return {
                'step': 'widen the box to the ratio of width and height, and cut it out, resized',
                'width': width,
                'height': height,
                'pixels meet': 'at their centres' if step.get('use_udp') else 'at their corners',
            } | {'interpolation': INTERPOLATION}
    if name.startswith(('Pack', 'Load')):
        return None
    return {'step': name} | {key: value for key, value in step.items() if key != 'type'}


def put_into_corner(image: np.ndarray, size: tuple[int, int], fill: Sequence[float]) -> np.ndarray:
    """Returns an image (height, width, C) with another, not larger, in its upper left corner."""
    padded: np.ndarray = np.empty((*size, image.shape[2]), np.uint8)
    padded[:] = np.round(fill).clip(0, 255).astype(np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def fixed_size(pipeline: list[dict[str, Any]]) -> tuple[int, int] | None:
    """Returns the height and width of what a pipeline makes of any image; None where it depends.

    Of a resize that keeps the ratio, these are the most that an image becomes, if it lies.
    """
    size = None
    for step in pipeline:
        value: Any = None
        match type_name(step):
            case 'Resize':
                value = step.get('scale')
            case 'CenterCrop':
                value = step.get('crop_size')
            case 'TopdownAffine':
                value = step.get('input_size')
        if value is not None:
            width, height = value if isinstance(value, (list, tuple)) else (value, value)
            size = int(height), int(width)
    return size
