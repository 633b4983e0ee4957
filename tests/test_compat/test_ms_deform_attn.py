"""Deformable attention behind mmcv.ops, against loops over its definition."""

import importlib
import itertools
import math

import numpy as np
import pytest
import torch
from fake_cuda import needs_cuda_code, only_fake_cuda

from scopevit import compat
from scopevit.benchmark.fake_cuda import backward
from scopevit.benchmark.memory import PeakMemory

compat.apply()  # before mmcv.ops can be imported
module = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
attend = module.MultiScaleDeformableAttnFunction.apply
STANDS_IN = 'standins' in importlib.import_module('mmcv._ext').__file__
pytestmark = pytest.mark.skipif(
    not STANDS_IN and not torch.cuda.is_available(), reason='mmcv compiles it for CUDA'
)
DEVICES = (['cpu'] if STANDS_IN else []) + (['cuda'] if torch.cuda.is_available() else [])
each_device = pytest.mark.parametrize('device', DEVICES)
SHAPES = [(4, 6), (3, 2)]  # H, W


def inputs(images=2, queries=5, heads=2, channels=3, points=2, shapes=SHAPES, **options):
    """Value, shapes, start of the levels, locations, some of them outside, and weights."""
    torch.manual_seed(0)
    options = dict(dtype=torch.float64, **options)
    keys = sum(h * w for h, w in shapes)
    start = np.cumsum([0] + [h * w for h, w in shapes])[:-1]
    place = images, queries, heads, len(shapes), points
    return (
        torch.randn(images, keys, heads, channels, **options),
        torch.tensor(shapes, device=options.get('device')),
        torch.tensor(start, device=options.get('device')),
        torch.rand(*place, 2, **options) * 1.6 - 0.3,
        torch.rand(place, **options),
    )


def brute(value, locations, weights, shapes=SHAPES):
    """Sums bilinear samples, one after the other."""
    images, queries, heads, levels, points, _ = locations.shape
    channels = value.shape[3]
    output = np.zeros((images, queries, heads, channels))
    for b, q, m, level, p in itertools.product(*map(range, locations.shape[:5])):
        height, width = shapes[level]
        first = sum(h * w for h, w in shapes[:level])
        grid = value[b, first : first + height * width, m].reshape(height, width, channels)
        x, y = locations[b, q, m, level, p] * (width, height) - 0.5
        for row, column in itertools.product(
            (math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)
        ):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - abs(y - row)) * (1 - abs(x - column))
                output[b, q, m] += weights[b, q, m, level, p] * share * grid[row, column]
    return output.reshape(images, queries, -1)


@each_device
@pytest.mark.parametrize('step', [1, 2, 64])
def test_values(step, device):
    args = inputs(device=device)
    output = attend(*args, step)
    expected = brute(*(args[i].cpu().numpy() for i in (0, 3, 4)))
    assert output.shape == (2, 5, 6)
    np.testing.assert_allclose(output.cpu(), expected, atol=1e-12)


@each_device
def test_gradients(device):
    value, shapes, start, locations, weights = inputs(device=device)
    assert torch.autograd.gradcheck(
        lambda value, locations, weights: attend(value, shapes, start, locations, weights, 64),
        [x.requires_grad_() for x in (value, locations, weights)],
    )


def test_gradients_are_those_of_the_pure_form():
    value, shapes, start, locations, weights = inputs(queries=40, heads=3, channels=8, points=4)
    leaves = [x.requires_grad_() for x in (value, locations, weights)]
    coefficients = torch.randn(2, 40, 24, dtype=torch.float64)
    output = attend(value, shapes, start, locations, weights, 64)
    ours = torch.autograd.grad((output * coefficients).sum(), leaves)
    output = module.multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    theirs = torch.autograd.grad((output * coefficients).sum(), leaves)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('far', [-1e12, 1e12, 3.0, -3.0])
def test_nothing_is_found_far_outside(far):
    value, shapes, start, locations, weights = inputs()
    locations[:, 0] = far
    leaves = [x.requires_grad_() for x in (value, locations, weights)]
    output = attend(value, shapes, start, locations, weights, 64)
    assert output[:, 0].abs().max() == 0 and output[:, 1].abs().max() > 0
    grads = torch.autograd.grad(output[:, 0].sum(), leaves)
    assert [grad.abs().max() for grad in grads] == [0, 0, 0]


def test_locations_that_are_no_numbers_spoil_only_their_query():
    value, shapes, start, locations, weights = inputs()
    expected = attend(value, shapes, start, locations, weights, 64)
    locations[0, 1] = math.nan
    output = attend(value, shapes, start, locations, weights, 64)
    assert output[0, 1].isnan().all()
    output[0, 1] = expected[0, 1]
    assert torch.equal(output, expected)


@each_device
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_other_precisions(dtype, device):
    value, shapes, start, locations, weights = inputs(device=device)
    low = [x.to(dtype).requires_grad_() for x in (value, locations, weights)]
    exact = [x.detach().double().requires_grad_() for x in low]
    with torch.autocast(device, dtype=torch.bfloat16):
        # mmcv casts the locations and weights to what the value is.
        output = attend(low[0], shapes, start, low[1].float(), low[2].float(), 64)
    expected = attend(exact[0], shapes, start, exact[1], exact[2], 64)
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected.to(dtype))
    output.sum().backward()
    expected.sum().backward()
    for x, y in zip(low, exact):
        torch.testing.assert_close(x.grad, y.grad.to(dtype))


@each_device
@pytest.mark.parametrize('size', [dict(images=0), dict(queries=0)])
def test_without_queries(size, device):
    value, shapes, start, locations, weights = inputs(device=device, **size)
    leaves = [x.requires_grad_() for x in (value, locations, weights)]
    output = attend(value, shapes, start, locations, weights, 64)
    assert output.shape == (len(value), locations.shape[1], 6)
    output.sum().backward()
    assert [x.grad.abs().sum() for x in leaves] == [0, 0, 0]


def test_compiled():
    value, shapes, start, locations, weights = inputs()
    leaves = [x.requires_grad_() for x in (value, locations, weights)]

    def step(value, locations, weights):
        return attend(value, shapes, start, locations, weights, 64) * 2

    expected = step(*leaves)
    grads = torch.autograd.grad(expected.sum(), leaves)
    torch.compiler.reset()
    output = torch.compile(step, backend='aot_eager', fullgraph=True)(*leaves)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(torch.autograd.grad(output.sum(), leaves), grads)


@pytest.mark.skipif(not STANDS_IN, reason='memory of the stand-in')
def test_memory():
    shapes = [(16, 16), (8, 8), (4, 4)]
    value, shapes, start, locations, weights = inputs(1, 336, 4, 32, 4, shapes)
    leaves = [x.float().requires_grad_() for x in (value, locations, weights)]
    peaks = []
    for step in (
        lambda v, x, w: attend(v, shapes, start, x, w, 64),
        lambda v, x, w: module.multi_scale_deformable_attn_pytorch(v, shapes, x, w),
    ):
        with torch.no_grad(), PeakMemory() as forward:
            step(*leaves)
        with PeakMemory() as both:
            step(*leaves).sum().backward()
        peaks.append((forward.peak_bytes, both.peak_bytes))
    ours, pure = peaks
    # The pure form holds the C numbers of each sample twice, this one 4 cells and weights.
    assert ours[0] < 0.3 * pure[0] and ours[1] < 0.6 * pure[1]


@needs_cuda_code
@pytest.mark.skipif(not STANDS_IN, reason='compiled operators want CUDA')
@pytest.mark.parametrize(
    'dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
def test_on_fake_cuda(dtype):
    with only_fake_cuda():
        options = dict(device='cuda', dtype=dtype, requires_grad=True)
        value = torch.empty(2, 30, 2, 3, **options)
        locations = torch.empty(2, 5, 2, 2, 2, 2, **options)
        weights = torch.empty(2, 5, 2, 2, 2, **options)
        shapes = torch.empty(2, 2, device='cuda', dtype=torch.int64)
        start = torch.empty(2, device='cuda', dtype=torch.int64)
        output = attend(value, shapes, start, locations, weights, 64)
        assert (output.shape, output.dtype, output.device.type) == ((2, 5, 6), dtype, 'cuda')
        backward(output.sum())
        assert all(x.grad.shape == x.shape for x in (value, locations, weights))
