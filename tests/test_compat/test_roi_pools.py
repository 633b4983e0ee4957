"""RoI operators behind mmcv.ops beside averages, against loops that share no code with them."""

import importlib
import itertools
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from scopevit import compat

compat.apply()  # before mmcv.ops can be imported
ops = importlib.import_module('mmcv.ops')
EXT = importlib.import_module('mmcv._ext')
STANDS_IN = 'standins' in EXT.__file__
pytestmark = pytest.mark.skipif(
    not STANDS_IN and not torch.cuda.is_available(), reason='mmcv compiles RoIPool for CUDA'
)
DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
DEVICES = DEVICES if STANDS_IN else ['cuda']

ROIS = [
    [0, 2.0, 3.0, 17.0, 21.0],
    [1, 0.0, 0.0, 31.5, 23.0],
    [1, 7.25, 4.5, 9.75, 5.5],  # within one cell
    [0, -12.0, -6.0, 8.0, 9.0],  # partly outside
    [1, 25.0, 20.0, 60.0, 50.0],
    [0, 100.0, 100.0, 120.0, 130.0],  # outside
    [1, 10.0, 8.0, 10.0, 8.0],  # no area
]
TURNED = [1, 14.0, 12.0, 6.0, 5.0]  # ends before it begins
each_half = pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)


def maps(dtype=torch.float64, shape=(2, 3, 12, 16)):
    generator = torch.Generator().manual_seed(8)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def brute_roi_pool(features, rois, size, scale):
    """Largest pixel of each bin; of bins without one 0."""
    height, width = features.shape[2:]
    output = np.zeros((len(rois), features.shape[1], *size))
    for r, (batch, x1, y1, x2, y2) in enumerate(rois):
        x1, y1, x2, y2 = x1 * scale, y1 * scale, (x2 + 1) * scale, (y2 + 1) * scale
        if x2 <= x1 or y2 <= y1:
            continue
        for i, j in itertools.product(range(size[0]), range(size[1])):
            top = max(math.floor(i * (y2 - y1) / size[0] + y1), 0)
            bottom = min(math.ceil((i + 1) * (y2 - y1) / size[0] + y1), height)
            left = max(math.floor(j * (x2 - x1) / size[1] + x1), 0)
            right = min(math.ceil((j + 1) * (x2 - x1) / size[1] + x1), width)
            if bottom > top and right > left:
                pixels = features[int(batch), :, top:bottom, left:right]
                output[r, :, i, j] = pixels.max(axis=(1, 2))
    return output


def sample(image, y, x):
    """Of maps (C, H, W), bilinear; 0 beyond one pixel outside, constant up to there."""
    height, width = image.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(len(image))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy, fx = y - y0, x - x0
    top = image[:, y0, x0] * (1 - fx) + image[:, y0, x1] * fx
    return top * (1 - fy) + (image[:, y1, x0] * (1 - fx) + image[:, y1, x1] * fx) * fy


def brute_samples(features, rois, size, scale, sampling, aligned=True, offset=None, gamma=0.1):
    """By region and bin, its samples (S, C)."""
    for r, (batch, *box) in enumerate(rois):
        x1, y1, x2, y2 = (c * scale - (0.5 if aligned else 0) for c in box)
        w, h = x2 - x1, y2 - y1
        if not aligned:
            w, h = max(w, 1), max(h, 1)
        bin_h, bin_w = h / size[0], w / size[1]
        ny, nx = sampling or math.ceil(bin_h), sampling or math.ceil(bin_w)
        for i, j in itertools.product(range(size[0]), range(size[1])):
            right, down = (0, 0) if offset is None else offset[r, :, i, j] * gamma * [w, h]
            yield (
                (r, i, j),
                [
                    sample(
                        features[int(batch)],
                        y1 + down + (i + (a + 0.5) / ny) * bin_h,
                        x1 + right + (j + (b + 0.5) / nx) * bin_w,
                    )
                    for a, b in itertools.product(range(ny), range(nx))
                ],
            )


def reduced(reduce, features, rois, size, *options, **more):
    output = np.zeros((len(rois), features.shape[1], *size))
    for (r, i, j), samples in brute_samples(features, rois, size, *options, **more):
        if samples:
            output[r, :, i, j] = reduce(samples, axis=0)
    return output


@pytest.mark.parametrize('device', DEVICES)
def test_roi_pool(device):
    features, rois = maps(), torch.tensor([*ROIS, TURNED], dtype=torch.float64)
    out = ops.RoIPool((3, 2), 0.5)(features.to(device), rois.to(device))
    expected = brute_roi_pool(features.numpy(), rois.tolist(), (3, 2), 0.5)
    assert np.array_equal(out.cpu(), expected)
    assert np.abs(expected[[5, 7]]).max() == 0 and np.abs(expected[:3]).min() > 0


def test_roi_pool_is_not_that_of_rounded_regions():
    """torchvision's, which would take the last pixel of this region for the first of the next."""
    features = torch.arange(16.0).view(1, 1, 4, 4)
    out = ops.roi_pool(features, torch.tensor([[0.0, 0, 0, 1.4, 1.4]]), 1)
    assert out.item() == 10  # from 0 to 2.4: three pixels each way


def test_roi_pool_gradient():
    rois = torch.tensor([*ROIS, TURNED], dtype=torch.float64)
    features = maps(shape=(2, 2, 6, 8)).requires_grad_()
    assert gradcheck(lambda x: ops.roi_pool(x, rois, (2, 3), 0.25), features)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling', [0, 2])
def test_roi_align_of_maxima(sampling, aligned, device):
    features, rois = maps(), torch.tensor(ROIS, dtype=torch.float64)
    layer = ops.RoIAlign((3, 2), 0.5, sampling, 'max', aligned)
    out = layer(features.to(device), rois.to(device))
    expected = reduced(np.max, features.numpy(), ROIS, (3, 2), 0.5, sampling, aligned)
    np.testing.assert_allclose(out.cpu(), expected, atol=1e-9)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling', [0, 3])
def test_gradient_of_roi_align_of_maxima(sampling, aligned):
    rois = torch.tensor(ROIS, dtype=torch.float64)
    features = maps(shape=(2, 2, 6, 8)).requires_grad_()
    assert gradcheck(
        lambda x: ops.roi_align(x, rois, (2, 3), 0.25, sampling, 'max', aligned),
        features,
        fast_mode=True,
    )


def test_memory_of_samples_is_bounded(monkeypatch):
    if not STANDS_IN:
        pytest.skip('the compiled operator takes none')
    features, rois = maps(), torch.tensor(ROIS, dtype=torch.float64)
    whole = ops.roi_align(features, rois, (3, 2), 0.5, 2, 'max')
    monkeypatch.setattr(EXT.rois, '_SAMPLES_AT_A_TIME', 2 * 3 * 6 * 4)
    groups = list(EXT.rois.sample_groups(rois, 3, 3, 2, 0.5, 2, True))
    assert [len(members) for members, _, _ in groups] == [2, 2, 2, 1]
    assert torch.equal(ops.roi_align(features, rois, (3, 2), 0.5, 2, 'max'), whole)


def offsets(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(len(ROIS), 2, 3, 2, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('has_offset', [True, False])
@pytest.mark.parametrize('sampling', [0, 2])
def test_deform_roi_pool(sampling, has_offset, device):
    features, rois = maps(), torch.tensor(ROIS, dtype=torch.float64)
    offset = offsets() if has_offset else None
    out = ops.deform_roi_pool(
        features.to(device),
        rois.to(device),
        offset.to(device) if has_offset else None,
        (3, 2),
        0.5,
        sampling,
        0.3,
    )
    expected = reduced(
        np.mean,
        features.numpy(),
        ROIS,
        (3, 2),
        0.5,
        sampling,
        offset=offset.numpy() if has_offset else None,
        gamma=0.3,
    )
    np.testing.assert_allclose(out.cpu(), expected, atol=1e-9)


@pytest.mark.parametrize('sampling', [0, 2])
def test_gradients_of_deform_roi_pool(sampling):
    rois = torch.tensor(ROIS, dtype=torch.float64)
    features = maps(shape=(2, 2, 6, 8)).requires_grad_()
    assert gradcheck(
        lambda x, o: ops.deform_roi_pool(x, rois, o, (3, 2), 0.25, sampling, 0.3),
        (features, offsets().requires_grad_()),
        fast_mode=True,
    )
    assert gradcheck(
        lambda x: ops.deform_roi_pool(x, rois, None, (3, 2), 0.25, sampling, 0.3),
        features,
        fast_mode=True,
    )


def test_layers_of_deform_roi_pool_begin_with_averages():
    torch.manual_seed(0)
    features, rois = maps(torch.float32), torch.tensor(ROIS)
    expected = ops.RoIAlign((7, 7), 0.5, 2)(features, rois)
    pack = ops.DeformRoIPoolPack((7, 7), 3, 8, 0.5, 2)
    torch.testing.assert_close(pack(features, rois), expected)
    pack = ops.ModulatedDeformRoIPoolPack((7, 7), 3, 8, 0.5, 2)
    out = pack(features, rois)
    torch.testing.assert_close(out, expected / 2)  # a mask of 0.5
    out.sum().backward()
    assert all(p.grad is not None for p in pack.parameters())


RUNS = {
    'pool': lambda x, rois, offset: ops.roi_pool(x, rois, (3, 2), 0.5),
    'max': lambda x, rois, offset: ops.roi_align(x, rois, (3, 2), 0.5, 0, 'max'),
    'deform': lambda x, rois, offset: ops.deform_roi_pool(x, rois, offset, (3, 2), 0.5, 0),
}
each_run = pytest.mark.parametrize('run', RUNS.values(), ids=RUNS)


@each_half
@each_run
def test_half_precision(run, dtype):
    rois, given = torch.tensor(ROIS).to(dtype), [maps(dtype), offsets(dtype)]
    halves = [x.clone().requires_grad_() for x in given]
    exact = [x.float().requires_grad_() for x in given]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = run(halves[0], rois, halves[1])
    expected = run(exact[0], rois.float(), exact[1])
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype))
    out.sum().backward()
    expected.sum().backward()
    for half, full in zip(halves, exact):
        if full.grad is not None:
            torch.testing.assert_close(half.grad, full.grad.to(dtype))


@pytest.mark.parametrize(
    'run',
    [
        *RUNS.values(),
        lambda x, rois, offset: ops.roi_align(x, rois, (3, 2), 0.5, 2, 'max'),
        lambda x, rois, offset: ops.deform_roi_pool(x, rois, offset, (3, 2), 0.5, 2),
    ],
    ids=[*RUNS, 'max of 2×2', 'deform of 2×2'],
)
def test_no_region(run):
    features = maps(torch.float32).requires_grad_()
    out = run(features, torch.empty(0, 5), torch.empty(0, 2, 3, 2))
    assert out.shape == (0, 3, 3, 2)
    out.sum().backward()
    assert features.grad.abs().sum() == 0


@pytest.mark.slow
@each_run
def test_compiled(run):
    rois, found = torch.tensor(ROIS), []
    for called in (run, torch.compile(run, backend='aot_eager')):
        features = maps(torch.float32).requires_grad_()
        offset = offsets(torch.float32).requires_grad_()
        out = called(features, rois, offset)
        out.square().sum().backward()
        found.append([out.detach(), features.grad, offset.grad])
    torch.testing.assert_close(found[1], found[0])
