"""The operators behind mmcv.ops on fake CUDA tensors: all stays there, forward and backward."""

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
@pytest.mark.parametrize('rois', [0, 7])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align(aligned, rois, dtype):
    with only_fake_cuda():
        features = cuda(2, 3, 12, 16, dtype=dtype, requires_grad=True)
        out = ops.RoIAlign(7, 0.5, aligned=aligned)(features, cuda(rois, 5, dtype=dtype))
        assert facts(out) == ((rois, 3, 7, 7), dtype, 'cuda')
        backward(out.sum())
        assert facts(features.grad) == facts(features)


@each_type
@pytest.mark.parametrize('has_weight', [False, True])
@pytest.mark.parametrize(
    'kind, reduction, shape',
    [
        ('sigmoid', 'none', (20, 4)),
        ('sigmoid', 'mean', ()),
        ('sigmoid', 'sum', ()),
        # mmcv's own backward pass of 'none' is wrong everywhere: it scales (N, C) by (N, ).
        ('softmax', 'mean', ()),
        ('softmax', 'sum', ()),
    ],
)
def test_focal_losses(kind, reduction, shape, has_weight, dtype):
    loss = {'sigmoid': ops.sigmoid_focal_loss, 'softmax': ops.softmax_focal_loss}[kind]
    with only_fake_cuda():
        logits = cuda(20, 4, dtype=dtype, requires_grad=True)
        weight = cuda(4, dtype=dtype) if has_weight else None
        out = loss(logits, cuda(20, dtype=torch.int64), 2.0, 0.25, weight, reduction)
        assert facts(out) == (shape, dtype, 'cuda')
        backward(out.sum())
        assert facts(logits.grad) == facts(logits)


def kept_of(nms, dtype, **options):
    """Device and types of what an NMS keeps, whose number is a symbol."""
    with only_fake_cuda(ShapeEnv()):
        boxes, scores = cuda(90, 4, dtype=dtype), cuda(90, dtype=dtype)
        dets, kept = nms(boxes, scores, **options)
        assert (dets.dim(), dets.shape[1], kept.dim()) == (2, 5, 1)
        return dets.dtype, kept.dtype, dets.device.type, kept.device.type


@each_type
@pytest.mark.parametrize('offset', [0, 1])
def test_nms(offset, dtype):
    expected = dtype, torch.int64, 'cuda', 'cuda'
    assert kept_of(ops.nms, dtype, iou_threshold=0.5, offset=offset) == expected


@each_type
def test_batched_nms(dtype):
    def batched(boxes, scores):
        labels = cuda(90, dtype=torch.int64)
        return ops.batched_nms(boxes, scores, labels, dict(type='nms', iou_threshold=0.5))

    assert kept_of(batched, dtype) == (dtype, torch.int64, 'cuda', 'cuda')


def test_overlaps_of_the_operators_that_go_box_by_box():
    """Of soft NMS and `nms_match`: as often as numbers say, they look for the best box left."""
    with only_fake_cuda():
        out = EXT.boxes._iou_with_one(cuda(4), cuda(9, 4), 1)
        assert facts(out) == ((9,), torch.float32, 'cuda')
