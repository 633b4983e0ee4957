"""What steps of several libraries do with the pixels of images."""

from typing import Any, TypeGuard

import cv2
import mmcv.transforms
import numpy as np
import torch
from mmcv.transforms.utils import cache_randomness
from torch import Tensor

FLIP_CODES = {'horizontal': 1, 'vertical': 0, 'diagonal': -1}
Results = dict[str, Any]


def is_plain(image: Any) -> TypeGuard[np.ndarray]:
    """Whether an image is one of 8-bit colours."""
    return bool(
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
    )


def planes(image: np.ndarray) -> Tensor:
    """Returns an image, (H, W, C), channel by channel, (C, H, W), in one copy."""
    channels = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    cv2.split(image, list(channels))
    return torch.from_numpy(channels)


class FastFlip:
    """For steps that flip: into memory that is contiguous, which the steps after it read faster."""

    direction: Any
    prob: Any

    @cache_randomness
    def _choose_direction(self) -> str | None:
        if not isinstance(self.direction, str) or not isinstance(self.prob, float):
            return super()._choose_direction()  # type: ignore[misc]
        # what `np.random.choice` draws and decides, without its checks
        return self.direction if np.random.random_sample() < self.prob else None

    def _flip(self, results: Results) -> None:
        image = results['img']
        super()._flip(results)  # type: ignore[misc]
        results['img'] = cv2.flip(image, FLIP_CODES[results['flip_direction']])


class RandomFlip(FastFlip, mmcv.transforms.RandomFlip):
    """That of mmpretrain and mmseg."""
