"""Poses decoded in a graph and by mmpose's codecs."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmpose.codecs import MSRAHeatmap, UDPHeatmap
from torch import nn

from scopevit.errors import InputError
from scopevit.export.pose import PoseGraph

SIZES: dict[str, Any] = dict(input_size=(64, 96), heatmap_size=(16, 24), sigma=2)


class Model(nn.Module):
    """A network whose heat maps are its images."""

    def __init__(self, decoder: object) -> None:
        super().__init__()
        self.head = SimpleNamespace(decoder=decoder, forward=lambda x: x)
        self.test_cfg: dict[str, Any] = {}

    def extract_feat(self, x: torch.Tensor) -> torch.Tensor:
        return x


def heatmaps() -> np.ndarray:
    """Gaussians inside, at edges and in corners, and one map without any, (1, K, 24, 16)."""
    y, x = np.mgrid[:24, :16]
    centres = [(7.3, 11.8), (1.2, 5.1), (14.6, 22.7), (0, 0), (15, 23), (8.5, 1.4), (2, 12)]
    maps = [np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8) for cx, cy in centres]
    noise = np.random.default_rng(0).uniform(0, 0.02, (len(maps), 24, 16))
    return (np.stack(maps) + noise)[None].astype(np.float32)


@pytest.mark.parametrize(
    'codec',
    [MSRAHeatmap(**SIZES), MSRAHeatmap(**SIZES, unbiased=True), UDPHeatmap(**SIZES)],
    ids=['quarter', 'dark', 'udp'],
)
def test_keypoints_are_those_of_the_codec(codec: Any) -> None:
    maps = heatmaps()
    expected, scores = codec.decode(maps[0])
    graph = PoseGraph(Model(codec), nn.Identity(), None)  # type: ignore[arg-type]
    found, found_scores = graph(torch.from_numpy(maps))
    np.testing.assert_allclose(found, expected, atol=2e-3)  # pixels of 96
    np.testing.assert_allclose(found_scores, scores)


def test_another_codec_is_one_line() -> None:
    codec = UDPHeatmap(**SIZES, heatmap_type='combined')
    with pytest.raises(InputError, match='codec UDPHeatmap cannot be exported'):
        PoseGraph(Model(codec), nn.Identity(), None)  # type: ignore[arg-type]
