"""The operators behind mmcv.ops, against implementations that share no code with them."""

import contextlib
import importlib
import itertools
import math
import sys

import mmcv
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from scopevit import compat
from scopevit.benchmark.memory import PeakMemory

compat.apply()  # before mmcv.ops can be imported
ops = importlib.import_module('mmcv.ops')
EXT = importlib.import_module('mmcv._ext')
STANDS_IN = 'standins' in EXT.__file__
DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']


def iou(a, b, offset=0):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union else 0


def brute_nms(boxes, scores, threshold, offset=0, groups=None):
    """Indices kept; equal scores in the order given; boxes of two groups never meet."""
    groups = groups or [0] * len(boxes)
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(
            groups[i] != groups[j] or iou(boxes[i], boxes[j], offset) <= threshold for j in kept
        ):
            kept.append(i)
    return kept


def random_boxes(count, seed, largest=40):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 60, (count, 2))
    size = rng.integers(0, largest, (count, 2))  # some have no area
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.3137, 0.5571])
def test_nms(offset, threshold, device):
    boxes = random_boxes(120, seed=1)
    scores = np.random.default_rng(2).permutation(120).astype(np.float32)
    dets, kept = ops.nms(
        torch.tensor(boxes, device=device),
        torch.tensor(scores, device=device),
        threshold,
        offset=offset,
    )
    expected = brute_nms(boxes.tolist(), scores.tolist(), threshold, offset)
    assert kept.tolist() == expected
    assert dets[:, :4].tolist() == boxes[expected].tolist()
    assert dets[:, 4].tolist() == scores[expected].tolist()


def test_nms_of_equal_scores_keeps_the_first():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [0, 1, 10, 11]])
    _, kept = ops.nms(boxes, torch.full((4,), 0.5), 0.5)
    assert kept.tolist() == [0, 2]


def test_nms_at_the_threshold_keeps_both():
    boxes = torch.tensor([[0.0, 0, 2, 1], [1, 0, 3, 1]])  # IoU 1 / 3
    scores = torch.tensor([0.9, 0.8])
    assert ops.nms(boxes, scores, 0.34)[1].tolist() == [0, 1]
    assert ops.nms(boxes, scores, 0.33)[1].tolist() == [0]


def test_nms_with_score_threshold_limit_numpy_and_nothing():
    boxes = np.array([[0, 0, 4, 4], [10, 10, 14, 14], [20, 20, 24, 24], [30, 30, 34, 34]], 'f')
    scores = np.array([0.1, 0.9, 0.5, 0.7], 'f')
    dets, kept = ops.nms(boxes, scores, 0.5, score_threshold=0.3, max_num=2)
    assert isinstance(dets, np.ndarray) and kept.tolist() == [1, 3]
    dets, kept = ops.nms(torch.empty(0, 4), torch.empty(0), 0.5)
    assert dets.shape == (0, 5) and kept.shape == (0,) and kept.dtype == torch.long


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_nms_in_other_precisions(dtype):
    boxes = torch.tensor(random_boxes(40, seed=3))
    scores = torch.arange(40.0)  # both exact in each of the types
    expected = brute_nms(boxes.tolist(), scores.tolist(), 0.5137)
    with torch.autocast('cpu', dtype=dtype, enabled=dtype != torch.float64):
        _, kept = ops.nms(boxes.to(dtype), scores.to(dtype), 0.5137)
        assert kept.tolist() == expected
        _, kept = ops.nms(boxes, scores.to(dtype), 0.5137)
    assert kept.tolist() == expected


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('split_thr', [10000, 10])
def test_batched_nms_keeps_classes_apart(split_thr, device):
    boxes = random_boxes(90, seed=4)
    rng = np.random.default_rng(5)
    scores = rng.permutation(90).astype(np.float32)
    labels = rng.integers(0, 3, 90)
    dets, kept = ops.batched_nms(
        torch.tensor(boxes, device=device),
        torch.tensor(scores, device=device),
        torch.tensor(labels, device=device),
        dict(type='nms', iou_threshold=0.4137, split_thr=split_thr),
    )
    expected = brute_nms(boxes.tolist(), scores.tolist(), 0.4137, groups=labels.tolist())
    assert kept.tolist() == expected
    assert dets.tolist() == np.column_stack([boxes, scores])[expected].tolist()
    assert len(expected) > len(brute_nms(boxes.tolist(), scores.tolist(), 0.4137))


def brute_soft_nms(boxes, scores, threshold, sigma, min_score, method, offset):
    scores, left, picked = list(scores), list(range(len(boxes))), []
    while left:
        best = max(left, key=lambda i: scores[i])
        left.remove(best)
        picked.append((best, scores[best]))
        for i in list(left):
            overlap = iou(boxes[best], boxes[i], offset)
            if method == 'gaussian':
                scores[i] *= math.exp(-overlap * overlap / sigma)
            elif overlap >= threshold:
                scores[i] *= 0 if method == 'naive' else 1 - overlap
            if scores[i] < min_score:
                left.remove(i)
    return picked


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
def test_soft_nms(method, offset):
    boxes = random_boxes(50, seed=6)
    boxes[:, 2:] += 1  # a box without area has no IoU with itself
    scores = np.random.default_rng(7).random(50).astype(np.float32)
    args = dict(iou_threshold=0.3137, sigma=0.5, min_score=0.05, method=method, offset=offset)
    dets, kept = ops.soft_nms(torch.tensor(boxes), torch.tensor(scores), **args)
    expected = brute_soft_nms(boxes.tolist(), scores.tolist(), 0.3137, 0.5, 0.05, method, offset)
    assert kept.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(dets[:, 4], [score for _, score in expected], rtol=1e-5)
    np.testing.assert_array_equal(dets[:, :4], boxes[kept])


def test_nms_match_groups_what_is_suppressed():
    dets = torch.tensor(
        [
            [0.0, 0, 10, 10, 0.8],
            [1, 0, 11, 10, 0.9],
            [40, 40, 50, 50, 0.3],
            [0, 1, 10, 11, 0.7],
            [41, 40, 51, 50, 0.2],
        ]
    )
    groups = ops.nms_match(dets, 0.5)
    assert [group.tolist() for group in groups] == [[1, 0, 3], [2, 4]]


def brute_roi_align(features, rois, size, scale, sampling, aligned):
    """Average of bilinear samples, straight from the definition; features (N, C, H, W)."""
    height, width = features.shape[2:]

    def sample(image, y, x):  # image (C, H, W)
        if y < -1 or y > height or x < -1 or x > width:
            return np.zeros(len(image))
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        y0, x0 = int(y), int(x)
        y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
        fy, fx = y - y0, x - x0
        top = image[:, y0, x0] * (1 - fx) + image[:, y0, x1] * fx
        return top * (1 - fy) + (image[:, y1, x0] * (1 - fx) + image[:, y1, x1] * fx) * fy

    output = np.zeros((len(rois), features.shape[1], *size))
    for r, (batch, *box) in enumerate(rois):
        x1, y1, x2, y2 = (c * scale - (0.5 if aligned else 0) for c in box)
        w, h = x2 - x1, y2 - y1
        if not aligned:
            w, h = max(w, 1), max(h, 1)
        bin_h, bin_w = h / size[0], w / size[1]
        ny = sampling or math.ceil(bin_h)
        nx = sampling or math.ceil(bin_w)
        for i, j in itertools.product(range(size[0]), range(size[1])):
            samples = [
                sample(
                    features[int(batch)],
                    y1 + (i + (a + 0.5) / ny) * bin_h,
                    x1 + (j + (b + 0.5) / nx) * bin_w,
                )
                for a, b in itertools.product(range(ny), range(nx))
            ]
            output[r, :, i, j] = np.sum(samples, axis=0) / len(samples) if samples else 0
    return output


ROIS = [
    [0, 2.0, 3.0, 17.0, 21.0],
    [1, 0.0, 0.0, 31.5, 23.0],
    [1, 7.25, 4.5, 9.75, 5.5],  # within one cell
    [0, -12.0, -6.0, 8.0, 9.0],  # partly outside
    [1, 25.0, 20.0, 60.0, 50.0],
    [0, 100.0, 100.0, 120.0, 130.0],  # outside
    [1, 10.0, 8.0, 10.0, 8.0],  # no area
]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling', [0, 2])
def test_roi_align(sampling, aligned, device):
    features = np.random.default_rng(8).normal(size=(2, 3, 12, 16))
    layer = ops.RoIAlign((3, 2), 0.5, sampling, aligned=aligned)
    output = layer(
        torch.tensor(features, device=device),
        torch.tensor(ROIS, dtype=torch.float64, device=device),
    )
    expected = brute_roi_align(features, ROIS, (3, 2), 0.5, sampling, aligned)
    np.testing.assert_allclose(output.cpu(), expected, atol=1e-9)
    assert np.abs(expected[5]).max() == 0 and np.abs(expected[0]).max() > 0


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling', [0, 2])
def test_roi_align_gradient(sampling, aligned):
    torch.manual_seed(0)
    features = torch.randn(2, 2, 6, 8, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor(ROIS, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: ops.roi_align(x, rois, (2, 3), 0.25, sampling, 'avg', aligned), features
    )


def test_roi_align_without_rois():
    features = torch.randn(1, 2, 6, 8, requires_grad=True)
    output = ops.RoIAlign(7)(features, torch.empty(0, 5))
    assert output.shape == (0, 2, 7, 7)
    output.sum().backward()
    assert features.grad.abs().sum() == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_in_half_precision(dtype):
    torch.manual_seed(0)
    features = torch.randn(2, 3, 12, 16).to(dtype).requires_grad_()
    exact = features.detach().float().requires_grad_()
    rois = torch.tensor(ROIS)
    layer = ops.RoIAlign(4, 0.5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = layer(features, rois.to(dtype))
    expected = layer(exact, rois.to(dtype).float())
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected.to(dtype))
    output.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(features.grad, exact.grad.to(dtype))


@pytest.mark.skipif(not STANDS_IN, reason='the compiled operator is another')
@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_roi_align_tells_that_its_gradient_is_not_deterministic(device, monkeypatch):
    """On CUDA, where its kernel adds in any order; as torchvision's own operator does."""
    monkeypatch.setattr(torch, 'are_deterministic_algorithms_enabled', lambda: True)
    alert = pytest.raises(RuntimeError, match='roi_align_backward_kernel does not have a determin')
    with FakeTensorMode():
        grad, rois, features = (
            torch.empty(shape, device=device) for shape in ((7, 3, 2, 2), (7, 5), (2, 3, 12, 16))
        )
        with alert if device == 'cuda' else contextlib.nullcontext():
            EXT.roi_align_backward(grad, rois, grad, grad, features, 2, 2, 0.5, 0, 1, True)


def plain_sigmoid_focal(logits, target, gamma, alpha):
    prob = 1 / (1 + torch.exp(-logits))
    hit = torch.zeros_like(logits)
    for row, label in enumerate(target.tolist()):
        if 0 <= label < logits.size(1):
            hit[row, label] = 1
    return -(
        hit * alpha * (1 - prob) ** gamma * torch.log(prob)
        + (1 - hit) * (1 - alpha) * prob**gamma * torch.log(1 - prob)
    )


@pytest.mark.skipif(
    not STANDS_IN and not torch.cuda.is_available(), reason='mmcv compiles focal losses for CUDA'
)
@pytest.mark.parametrize('device', DEVICES if STANDS_IN else ['cuda'])
@pytest.mark.parametrize('gamma,alpha', [(2.0, 0.25), (0.0, 0.5), (1.5, 0.75)])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_sigmoid_focal_loss(gamma, alpha, reduction, device):
    torch.manual_seed(0)
    data = (torch.randn(20, 4, dtype=torch.float64) * 3).to(device)
    target = torch.randint(0, 5, (20,), device=device)  # 4 is background
    logits, plain_logits = data.clone().requires_grad_(), data.clone().requires_grad_()
    loss = ops.sigmoid_focal_loss(logits, target, gamma, alpha, None, reduction)
    plain = plain_sigmoid_focal(plain_logits, target, gamma, alpha)
    plain = {'none': plain, 'mean': plain.sum() / 20, 'sum': plain.sum()}[reduction]
    torch.testing.assert_close(loss, plain)
    loss.sum().backward()
    plain.sum().backward()
    torch.testing.assert_close(logits.grad, plain_logits.grad)


@pytest.mark.skipif(not STANDS_IN, reason='mmcv compiles focal losses for CUDA only')
def test_sigmoid_focal_loss_with_class_weights():
    data = torch.randn(6, 3, dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 3, 2, 0])
    weight = torch.tensor([1.0, 2, 5], dtype=torch.float64)
    logits, plain_logits = data.clone().requires_grad_(), data.clone().requires_grad_()
    loss = ops.SigmoidFocalLoss(2.0, 0.25, weight, 'sum')(logits, target)
    rows = torch.tensor([1.0, 2, 5, 1, 5, 1], dtype=torch.float64)  # background: 1
    plain = (plain_sigmoid_focal(plain_logits, target, 2.0, 0.25) * rows[:, None]).sum()
    torch.testing.assert_close(loss, plain)
    loss.backward()
    plain.backward()
    torch.testing.assert_close(logits.grad, plain_logits.grad)


@pytest.mark.skipif(not STANDS_IN, reason='mmcv compiles focal losses for CUDA only')
@pytest.mark.parametrize('name', ['forward', 'backward'])
def test_memory_of_sigmoid_focal_loss(name):
    logits, target = torch.randn(500, 80), torch.randint(0, 81, (500,))
    out, weight = torch.empty_like(logits), torch.rand(80)
    with torch.no_grad(), PeakMemory() as memory:
        getattr(EXT, f'sigmoid_focal_loss_{name}')(logits, target, weight, out, 2.0, 0.25)
    # Balance, log-probability, probability, and a byte each for which logits are of the target.
    assert memory.peak_bytes <= 3.3 * out.nbytes
    assert memory.largest_bytes == out.nbytes


@pytest.mark.skipif(not STANDS_IN, reason='mmcv compiles focal losses for CUDA only')
def test_sigmoid_focal_loss_of_extreme_logits_and_half_precision():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = ops.sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, None, 'none')
    # -(1 - alpha) log(1 - p) = 0.75 * 200 and -alpha log(p) = 0.25 * 200
    torch.testing.assert_close(loss, torch.tensor([[150.0, 50.0]]))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.75, -0.25]]))
    half = torch.tensor([[1.0, -2.0]], dtype=torch.bfloat16)
    loss = ops.sigmoid_focal_loss(half, torch.tensor([0]), 2.0, 0.25, None, 'none')
    assert loss.dtype == torch.bfloat16
    expected = plain_sigmoid_focal(half.float(), torch.tensor([0]), 2.0, 0.25)
    torch.testing.assert_close(loss, expected.bfloat16())


@pytest.mark.skipif(not STANDS_IN, reason='mmcv compiles focal losses for CUDA only')
@pytest.mark.parametrize('weighted', [False, True])
def test_softmax_focal_loss(weighted):
    torch.manual_seed(0)
    data = torch.randn(12, 4, dtype=torch.float64)
    target = torch.randint(0, 4, (12,))
    target[3] = -1  # ignored
    weight = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64) if weighted else None
    logits, plain_logits = data.clone().requires_grad_(), data.clone().requires_grad_()
    loss = ops.softmax_focal_loss(logits, target, 2.0, 0.25, weight, 'sum')
    plain = 0
    for row, label in zip(plain_logits.softmax(dim=1), target.tolist()):
        if label >= 0:
            row_loss = -0.25 * (1 - row[label]) ** 2 * row[label].log()
            plain = plain + row_loss * (weight[label] if weighted else 1)
    torch.testing.assert_close(loss, plain)
    loss.backward()
    plain.backward()
    torch.testing.assert_close(logits.grad, plain_logits.grad)
    assert logits.grad[3].abs().sum() == 0


@pytest.mark.skipif(not STANDS_IN, reason='the compiled operator is there')
def test_other_operators_say_what_to_do():
    with pytest.raises(NotImplementedError, match='"min_area_polygons" .* Install mmcv'):
        ops.min_area_polygons(torch.ones(1, 18))
    assert not hasattr(EXT, '__wrapped__')
    assert 'torchvision' in ops.get_compiler_version()
    assert 'torchvision' in ops.get_compiling_cuda_version()


def test_module_looks_installed():
    assert importlib.util.find_spec('mmcv._ext').name == 'mmcv._ext'
    assert mmcv.utils.ext_loader.load_ext('_ext', ['nms', 'carafe_forward']) is EXT


def test_a_compiled_extension_wins(tmp_path, monkeypatch):
    (tmp_path / '_ext.py').write_text('compiled = True\n')
    monkeypatch.setattr(mmcv, '__path__', [*mmcv.__path__, str(tmp_path)])
    monkeypatch.setattr(mmcv, '_ext', EXT, raising=False)
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    importlib.invalidate_caches()
    assert importlib.import_module('mmcv._ext').compiled is True
