"""Overlaps of boxes and masked convolution behind mmcv.ops, against loops and torch's own."""

import importlib

import pytest
import torch
import torch.nn.functional as F

from scopevit import compat

compat.apply()  # before mmcv.ops can be imported
ops = importlib.import_module('mmcv.ops')
EXT = importlib.import_module('mmcv._ext')
STANDS_IN = 'standins' in EXT.__file__
FIRST = [[0.0, 0, 10, 10], [5, 5, 15, 20], [30, 30, 31, 34], [-4, -2, 3, 8]]
SECOND = [[0.0, 0, 10, 10], [8, 2, 20, 12], [100, 100, 110, 105], [2, 3, 9, 30]]
needs_masks = pytest.mark.skipif(not STANDS_IN, reason='mmcv compiles masked convolution for CUDA')


def overlap(a, b, mode, offset):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    first, second = ((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b))
    shared = width * height
    return shared / (first if mode == 'iof' else first + second - shared)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_bbox_overlaps(mode, offset):
    boxes = torch.tensor(FIRST, dtype=torch.float64), torch.tensor(SECOND, dtype=torch.float64)
    given = [t.clone() for t in boxes]
    all_pairs = [[overlap(a, b, mode, offset) for b in SECOND] for a in FIRST]
    found = ops.bbox_overlaps(*boxes, mode=mode, offset=offset)
    torch.testing.assert_close(found, torch.tensor(all_pairs, dtype=torch.float64))
    found = ops.bbox_overlaps(boxes[0][:3], boxes[1], mode=mode, offset=offset)
    assert found.shape == (3, 4) and found[0, 0] == 1
    aligned = ops.bbox_overlaps(*boxes, mode=mode, aligned=True, offset=offset)
    expected = [overlap(a, b, mode, offset) for a, b in zip(FIRST, SECOND)]
    torch.testing.assert_close(aligned, torch.tensor(expected, dtype=torch.float64))
    assert all(torch.equal(t, before) for t, before in zip(boxes, given))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_bbox_overlaps_in_other_precisions(dtype):
    """Areas of large boxes are beyond float16."""
    boxes = torch.tensor(FIRST), torch.tensor(SECOND)
    boxes = [torch.cat([t, torch.tensor([[0.0, 0, 512, 512]])]) for t in boxes]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = ops.bbox_overlaps(*(t.to(dtype) for t in boxes))
    assert found.dtype == dtype
    torch.testing.assert_close(found, ops.bbox_overlaps(*boxes).to(dtype))
    assert found[4, 4] == 1


def test_bbox_overlaps_of_nothing():
    some, none = torch.tensor(FIRST), torch.empty(0, 4)
    assert ops.bbox_overlaps(none, some).shape == (0, 4)
    assert ops.bbox_overlaps(some, none).shape == (4, 0)
    assert ops.bbox_overlaps(none, none, aligned=True).shape == (0,)


@needs_masks
@pytest.mark.parametrize('kernel, padding', [((3, 3), (1, 1)), ((3, 5), (1, 2)), ((3, 3), (2, 1))])
def test_masked_convolution(kernel, padding):
    torch.manual_seed(0)
    layer = ops.MaskedConv2d(3, 4, kernel, padding=padding).double()
    x = torch.randn(1, 3, 7, 9, dtype=torch.float64)
    mask = torch.rand(1, 7, 9) - 0.5
    mask[0, 0, 0] = mask[0, 6, 8] = 1  # corners
    expected = F.conv2d(x, layer.weight, layer.bias, padding=padding)
    chosen = torch.zeros(expected.shape[2:], dtype=torch.bool)
    chosen[:7, :9] = mask[0] > 0
    found = layer(x, mask)
    torch.testing.assert_close(found, expected * chosen)
    torch.testing.assert_close(layer(x), expected)
    assert layer(x, torch.zeros(1, 7, 9)).abs().sum() == 0


@needs_masks
def test_masked_convolution_by_a_kernel_beyond_the_padding():
    """Places whose kernel ends outside have no place among the outputs, as in no convolution."""
    torch.manual_seed(0)
    layer = ops.MaskedConv2d(2, 3, 3, padding=0)
    x, mask = torch.randn(1, 2, 6, 6), torch.zeros(1, 6, 6)
    mask[0, 3, 2] = 1
    expected = F.conv2d(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x, mask)[0, :, 3, 2], expected[0, :, 3, 2])
    mask[0, 5, 5] = 1
    with pytest.raises(IndexError, match='out of bounds'):
        layer(x, mask)


@needs_masks
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_masked_convolution_under_autocast(dtype):
    torch.manual_seed(0)
    layer, x = ops.MaskedConv2d(2, 3, 3, padding=1), torch.randn(1, 2, 6, 6)
    mask = torch.eye(6)[None]
    with torch.autocast('cpu', dtype=dtype):
        found = layer(x, mask)
    assert found.dtype == torch.float32  # mmcv takes the input's
    torch.testing.assert_close(found, layer(x, mask), rtol=2e-2, atol=2e-2)
