"""Deformable convolutions and RoI pools of mmcv.ops on fake CUDA tensors: all stays there."""

import importlib

import pytest
import torch
from fake_cuda import needs_cuda_code, only_fake_cuda
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from scopevit import compat
from scopevit.benchmark.fake_cuda import backward

compat.apply()  # before mmcv.ops can be imported
ops = importlib.import_module('mmcv.ops')
EXT = importlib.import_module('mmcv._ext')
pytestmark = [
    needs_cuda_code,
    pytest.mark.filterwarnings('ignore:.create_unbacked_symint'),  # in torchvision
    pytest.mark.skipif('standins' not in EXT.__file__, reason='compiled operators want CUDA'),
]
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
each_type = pytest.mark.parametrize('dtype', FLOATS, ids=str)


def cuda(*shape, dtype=torch.float32, **options):
    return torch.empty(*shape, dtype=dtype, device='cuda', **options)


def facts(x):
    return tuple(x.shape), x.dtype, x.device.type


@each_type
@pytest.mark.parametrize('step', [32, 2])
def test_deform_conv2d(step, dtype):
    with only_fake_cuda():
        shapes = (4, 8, 10, 12), (4, 36, 10, 12), (6, 4, 3, 3)
        given = [cuda(*shape, dtype=dtype, requires_grad=True) for shape in shapes]
        out = ops.deform_conv2d(*given, 1, 1, 1, 2, 2, False, step)
        assert facts(out) == ((4, 6, 10, 12), dtype, 'cuda')
        backward(out.sum())
        assert [facts(x.grad) for x in given] == [facts(x) for x in given]


@each_type
@pytest.mark.parametrize('has_bias', [True, False])
def test_modulated_deform_conv2d(has_bias, dtype):
    with only_fake_cuda():
        shapes = [(4, 8, 10, 12), (4, 36, 10, 12), (4, 18, 10, 12), (6, 4, 3, 3), (6,)]
        given = [cuda(*shape, dtype=dtype, requires_grad=True) for shape in shapes[: 4 + has_bias]]
        bias = [] if has_bias else [None]
        out = ops.modulated_deform_conv2d(*given, *bias, 1, 1, 1, 2, 2)
        assert facts(out) == ((4, 6, 10, 12), dtype, 'cuda')
        backward(out.sum())
        assert [facts(x.grad) for x in given] == [facts(x) for x in given]


@each_type
@pytest.mark.parametrize('rois', [0, 7])
def test_roi_pool(rois, dtype):
    with only_fake_cuda():
        features = cuda(2, 3, 12, 16, dtype=dtype, requires_grad=True)
        out = ops.roi_pool(features, cuda(rois, 5, dtype=dtype), (7, 7), 0.5)
        assert facts(out) == ((rois, 3, 7, 7), dtype, 'cuda')
        backward(out.sum())
        assert facts(features.grad) == facts(features)


@each_type
def test_roi_align_of_maxima(dtype):
    with only_fake_cuda():
        features = cuda(2, 3, 12, 16, dtype=dtype, requires_grad=True)
        out = ops.RoIAlign(7, 0.5, 2, 'max')(features, cuda(9, 5, dtype=dtype))
        assert facts(out) == ((9, 3, 7, 7), dtype, 'cuda')
        backward(out.sum())
        assert facts(features.grad) == facts(features)


@each_type
@pytest.mark.parametrize('has_offset', [True, False])
def test_deform_roi_pool(has_offset, dtype):
    with only_fake_cuda():
        features = cuda(2, 3, 12, 16, dtype=dtype, requires_grad=True)
        offset = cuda(9, 2, 7, 7, dtype=dtype, requires_grad=True) if has_offset else None
        out = ops.deform_roi_pool(features, cuda(9, 5, dtype=dtype), offset, (7, 7), 0.5, 2)
        assert facts(out) == ((9, 3, 7, 7), dtype, 'cuda')
        backward(out.sum())
        assert facts(features.grad) == facts(features)
        if has_offset:
            assert facts(offset.grad) == facts(offset)


@each_type
@pytest.mark.parametrize('aligned, shape', [(True, (9,)), (False, (9, 9))])
def test_bbox_overlaps(aligned, shape, dtype):
    with only_fake_cuda():
        boxes = cuda(9, 4, dtype=dtype), cuda(9, 4, dtype=dtype)
        out = ops.bbox_overlaps(*boxes, aligned=aligned)
        assert facts(out) == (shape, dtype, 'cuda')


@each_type
def test_columns_of_masked_convolution(dtype):
    with only_fake_cuda(ShapeEnv()):
        x, places = cuda(1, 3, 7, 9, dtype=dtype), cuda(11, dtype=torch.int64)
        columns, out = cuda(27, 11, dtype=dtype), cuda(1, 4, 7, 9, dtype=dtype)
        EXT.masked_im2col_forward(x, places, places, columns, 3, 3, 1, 1)
        EXT.masked_col2im_forward(cuda(4, 11, dtype=dtype), places, places, out, 7, 9, 4)
