"""Parts of networks as they are exported."""

import pytest
import torch
from torch import nn

from scopevit.export.graphs import AnySizePool, pool_any_size, shares


@pytest.mark.parametrize('bins', [2, (3, 6), (None, 4), 7])
@pytest.mark.parametrize('size', [(1, 1), (5, 7), (6, 12), (16, 9)])
def test_pooling_is_that_of_pytorch(bins: int | tuple[int, int], size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = nn.AdaptiveAvgPool2d(bins)(x)
    torch.testing.assert_close(AnySizePool(bins)(x), expected, rtol=1e-12, atol=1e-12)


def test_shares_of_pixels() -> None:
    # Five pixels in two bins: the one in the middle is in both.
    expected = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]) / 3
    torch.testing.assert_close(shares(5, 2, torch.zeros(1)), expected)


def test_pooling_to_one_bin_stays() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.AdaptiveAvgPool2d(2)))
    pool_any_size(model)
    assert isinstance(model[0], nn.AdaptiveAvgPool2d)
    assert isinstance(model[1][0], AnySizePool)
