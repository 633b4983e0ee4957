"""Poses from heat maps as mmpose's codecs decode them, in operators that runtimes have."""

from typing import Any

import cv2
import numpy as np
import torch
from mmpose.models.utils.tta import flip_heatmaps
from torch import Tensor
from torch.nn import functional as F

from scopevit.errors import InputError
from scopevit.export.graphs import Graph, Images

CODECS = ('MSRAHeatmap', 'UDPHeatmap')


class PoseGraph(Graph):
    """Gives `keypoints`, (N, K, 2), x and y in pixels of the images, and `scores`, (N, K).

    The test by a mirror image is part of it, where the config has it.

    Args:
        model: A top-down estimator with heat maps.
        images: What makes its inputs.
        flip_indices: The keypoint that each becomes in a mirror.

    Raises:
        InputError: If its codec is another.
    """

    outputs = ('keypoints', 'scores')
    factor: Tensor
    kernel: Tensor

    def __init__(self, model: Any, images: Images, flip_indices: list[int] | None) -> None:
        super().__init__(model, images)
        decoder: Any = getattr(model.head, 'decoder', None)
        name = type(decoder).__name__
        if name not in CODECS or getattr(decoder, 'heatmap_type', 'gaussian') != 'gaussian':
            raise InputError(
                f'the codec {name} cannot be exported: {" and ".join(CODECS)} of Gaussians can'
            )
        self.flip_indices = flip_indices
        self.is_udp = name == 'UDPHeatmap'
        self.is_refined = self.is_udp or decoder.unbiased
        sizes = decoder.input_size, decoder.heatmap_size
        size, scale = (torch.tensor(x, dtype=torch.float32) for x in sizes)
        factor = size / (scale - 1) if self.is_udp else size / scale
        self.register_buffer('factor', factor)
        length = decoder.blur_kernel_size
        line = torch.from_numpy(cv2.getGaussianKernel(length, 0, cv2.CV_32F))  # (length, 1)
        self.register_buffer('kernel', line[None, None])  # (1, 1, length, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.heatmaps(self.images(images))
        points, scores = find_maxima(maps)
        if not self.is_refined:
            points = points + quarter_offsets(maps, points)
        elif self.is_udp:
            points = points - newton_steps(self.log_maps(maps, 1e-3, 50.0), points)
        else:
            points = points - wide_newton_steps(self.log_maps(maps, 1e-10), points)
        return points * self.factor, scores

    def heatmaps(self, x: Tensor) -> Tensor:
        """Returns (N, K, h, w)."""
        head, options = self.model.head, self.model.test_cfg or {}
        maps = head.forward(self.model.extract_feat(x))
        if not options.get('flip_test', False):
            return maps
        mirrored = flip_heatmaps(
            head.forward(self.model.extract_feat(x.flip(-1))),
            flip_mode=options.get('flip_mode', 'heatmap'),
            flip_indices=self.flip_indices,
            shift_heatmap=options.get('shift_heatmap', False),
        )
        return (maps + mirrored) * 0.5

    def log_maps(self, maps: Tensor, least: float, most: float | None = None) -> Tensor:
        """Returns the logarithm of blurred maps whose maxima stay as they were."""
        flat = maps.flatten(0, 1)[:, None]  # (N, K, h, w) -> (N * K, 1, h, w)
        border = self.kernel.shape[2] // 2
        blurred = F.conv2d(flat, self.kernel, padding=(border, 0))
        blurred = F.conv2d(blurred, self.kernel.transpose(2, 3), padding=(0, border))
        blurred = blurred * (flat.amax((2, 3), keepdim=True) / blurred.amax((2, 3), keepdim=True))
        return blurred.clamp(least, most).log().reshape(maps.shape)  # (N, K, h, w)


def find_maxima(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Returns where the maxima are, (N, K, 2), -1 of those not above 0, and their values."""
    width = maps.shape[3]
    flat = maps.flatten(2)  # (N, K, h, w) -> (N, K, h * w)
    scores, index = flat.amax(2), flat.argmax(2)
    points = torch.stack([index % width, index // width], dim=2).float()
    return torch.where(scores[..., None] > 0, points, -torch.ones_like(points)), scores


class Reader:
    """Reads maps near points.

    Args:
        maps: (N, K, h, w).
        points: (N, K, 2), x and y.
        border: How far to repeat the edge.
    """

    def __init__(self, maps: Tensor, points: Tensor, border: int) -> None:
        padded = F.pad(maps, [border] * 4, mode='replicate')
        self.row = padded.shape[3]
        self.flat = padded.flatten(2)  # (N, K, h', w') -> (N, K, h' * w')
        x, y = (points.long() + border).unbind(2)
        self.index = y * self.row + x  # (N, K)
        self.last = self.flat.shape[2] - 1

    def __call__(self, dx: int, dy: int) -> Tensor:
        """Returns the values so far from the points, (N, K)."""
        index = (self.index + dy * self.row + dx).clamp(0, self.last)  # points may lie at -1
        return self.flat.gather(2, index[..., None])[..., 0]


def quarter_offsets(maps: Tensor, points: Tensor) -> Tensor:
    """Returns a quarter of a pixel towards the larger neighbour, (N, K, 2).

    Next to the edges there is none; mmpose leaves out one column and row more on one side.
    """
    height, width = maps.shape[2:]
    near = Reader(maps, points, 1)
    x, y = points.unbind(2)
    dx = (near(1, 0) - near(-1, 0)).sign() * ((x > 1) & (x < width - 1) & (y > 0))
    dy = (near(0, 1) - near(0, -1)).sign() * ((y > 1) & (y < height - 1) & (x > 0))
    return torch.stack([dx, dy], 2) * 0.25


def is_inside(maps: Tensor, points: Tensor) -> Tensor:
    """Whether points are more than two pixels away from the edge, (N, K, 1)."""
    height, width = maps.shape[2:]
    x, y = points.unbind(2)
    return ((x > 1) & (x < width - 2) & (y > 1) & (y < height - 2))[..., None]


def newton_steps(logs: Tensor, points: Tensor) -> Tensor:
    """Returns the steps to the maxima by the derivatives next to the points (UDP), (N, K, 2)."""
    near = Reader(logs, points, 1)
    middle = near(0, 0)
    right, left, below, above = near(1, 0), near(-1, 0), near(0, 1), near(0, -1)
    eps = float(np.finfo(np.float32).eps)
    return solve(
        dx=0.5 * (right - left),
        dy=0.5 * (below - above),
        dxx=right - 2 * middle + left + eps,
        dyy=below - 2 * middle + above + eps,
        dxy=0.5 * (near(1, 1) - right - below + middle + middle - left - above + near(-1, -1)),
    )


def wide_newton_steps(logs: Tensor, points: Tensor) -> Tensor:
    """Returns the steps to the maxima by the derivatives two pixels wide (DARK), (N, K, 2)."""
    near = Reader(logs, points, 2)
    middle = near(0, 0)
    dxx = 0.25 * (near(2, 0) - 2 * middle + near(-2, 0))
    dyy = 0.25 * (near(0, 2) - 2 * middle + near(0, -2))
    dxy = 0.25 * (near(1, 1) - near(1, -1) - near(-1, 1) + near(-1, -1))
    is_regular = (dxx * dyy - dxy * dxy != 0)[..., None]
    steps = solve(0.5 * (near(1, 0) - near(-1, 0)), 0.5 * (near(0, 1) - near(0, -1)), dxx, dyy, dxy)
    return torch.where(is_inside(logs, points) & is_regular, steps, 0.0)


def solve(dx: Tensor, dy: Tensor, dxx: Tensor, dyy: Tensor, dxy: Tensor) -> Tensor:
    """Returns the inverse of the second derivatives times the first ones, (N, K, 2)."""
    determinant = dxx * dyy - dxy * dxy
    return torch.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx], 2) / determinant[..., None]
