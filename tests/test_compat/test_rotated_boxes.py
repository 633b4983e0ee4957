"""Overlaps and NMS of rotated boxes and quadrilaterals behind mmcv.ops, against shapely's."""

import importlib
import math

import numpy as np
import pytest
import shapely
import torch
from fake_cuda import needs_cuda_code, only_fake_cuda

from scopevit import compat

compat.apply()  # before mmcv.ops can be imported
ops = importlib.import_module('mmcv.ops')
EXT = importlib.import_module('mmcv._ext')
STANDS_IN = 'standins' in EXT.__file__
stand_in_alone = pytest.mark.skipif(not STANDS_IN, reason='the compiled operator is another')
DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
each_device = pytest.mark.parametrize('device', DEVICES)


def rotated_boxes(count, seed, spread=60):
    rng = np.random.default_rng(seed)
    center, size = rng.uniform(0, spread, (count, 2)), rng.uniform(1, 30, (count, 2))
    return np.column_stack([center, size, rng.uniform(-4, 4, count)])


def polygon(box, clockwise=True):
    """Of one rotated box. Shapely's y points up, hence turns the other way; y is down here."""
    x, y, w, h, angle = box
    box = shapely.box(x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    angle = angle if clockwise else -angle
    # With y pointing down, a positive angle of shapely's is seen clockwise.
    return shapely.affinity.rotate(box, angle, origin=(x, y), use_radians=True)


def quadrilateral(box):
    return shapely.Polygon(np.reshape(box, (4, 2)))


def overlap(first, second, mode='iou'):
    area = first.intersection(second).area
    return area / (first.area if mode == 'iof' else first.union(second).area)


def quadrilaterals(count, seed):
    """Convex ones: corners on ellipses, either way round."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * math.pi, (count, 4)), axis=1)
    angle[::2] = angle[::2, ::-1]
    points = np.stack([np.cos(angle), np.sin(angle)], axis=2) * rng.uniform(5, 20, (count, 1, 2))
    return (points + rng.uniform(0, 40, (count, 1, 2))).reshape(count, 8)


@each_device
@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('clockwise', [True, False])
@pytest.mark.parametrize('aligned', [True, False])
def test_rotated_overlaps(aligned, clockwise, mode, device):
    first, second = rotated_boxes(40, seed=1), rotated_boxes(40, seed=2)
    ious = ops.box_iou_rotated(
        torch.tensor(first, device=device),
        torch.tensor(second, device=device),
        mode,
        aligned,
        clockwise,
    )
    polygons = [[polygon(box, clockwise) for box in boxes] for boxes in (first, second)]
    pairs = zip(*polygons) if aligned else ((a, b) for a in polygons[0] for b in polygons[1])
    expected = np.array([overlap(a, b, mode) for a, b in pairs])
    assert ious.shape == ((40,) if aligned else (40, 40))
    np.testing.assert_allclose(ious.flatten().cpu(), expected, atol=1e-9 if STANDS_IN else 1e-6)
    assert 0.1 < np.mean(expected > 0) < 0.9


@each_device
@stand_in_alone  # the compiled operator takes all quadrilaterals for parallelograms
@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('aligned', [True, False])
def test_overlaps_of_quadrilaterals(aligned, mode, device):
    first, second = quadrilaterals(40, seed=3), quadrilaterals(40, seed=4)
    ious = ops.box_iou_quadri(
        torch.tensor(first, device=device), torch.tensor(second, device=device), mode, aligned
    )
    polygons = [[quadrilateral(box) for box in boxes] for boxes in (first, second)]
    pairs = zip(*polygons) if aligned else ((a, b) for a in polygons[0] for b in polygons[1])
    expected = np.array([overlap(a, b, mode) for a, b in pairs])
    np.testing.assert_allclose(ious.flatten().cpu(), expected, atol=1e-9)
    assert 0.1 < np.mean(expected > 0) < 0.9


QUARTER = math.pi / 2
PAIRS = [  # (x, y, width, height, angle) twice, IoU
    ([5, 5, 4, 2, 0.3], [5, 5, 4, 2, 0.3], 1),
    ([5, 5, 4, 2, 0.3], [5, 5, 4, 2, 0.3 + math.pi], 1),  # the same, its corners renamed
    ([5, 5, 4, 2, 0.3], [5, 5, 2, 4, 0.3 - QUARTER], 1),
    ([5, 5, 4, 4, 0], [7, 5, 4, 4, 0], 1 / 3),  # edges on one line
    ([5, 5, 4, 4, 0], [9, 5, 4, 4, 0], 0),  # a common edge
    ([5, 5, 4, 4, 0], [9, 9, 4, 4, QUARTER], 0),  # a common corner
    ([5, 5, 4, 4, 0], [5, 5, 2, 1, 1.1], 2 / 16),  # one within the other
    ([5, 5, 2, 2, 0], [5, 5, 8**0.5, 8**0.5, QUARTER / 2], 0.5),  # its corners on the edges
    ([5, 5, 6, 2, 0], [5, 5, 6, 2, QUARTER], 4 / 20),  # a cross
    ([5, 5, 2, 2, 0], [5, 5, 2, 2, QUARTER / 2], 1 / 2**0.5),  # an octagon
    ([5, 5, 1e3, 1e-2, 0.2], [5, 5, 1e3, 1e-2, 0.2 + math.pi], 1),
    ([5, 5, 0, 4, 0], [5, 5, 4, 4, 0], 0),  # no area
    ([5, 5, 0, 0, 0], [5, 5, 0, 0, 0], 0),
    ([1e5, 1e5, 40, 20, 0.5], [1e5 + 8, 1e5, 40, 20, 0.5], None),
]


@each_device
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('first, second, expected', PAIRS)
def test_special_pairs(first, second, expected, dtype, device):
    if expected is None:
        expected = overlap(polygon(first), polygon(second))
    boxes = [torch.tensor([box], dtype=dtype, device=device) for box in (first, second)]
    # Its corners are rounded to 6e-5, of a height of 1e-2.
    tolerance = 1e-2 if 1e3 in first and dtype == torch.float32 else 2e-6
    for pair in (boxes, boxes[::-1]):
        assert ops.box_iou_rotated(*pair).item() == pytest.approx(expected, abs=tolerance)


@stand_in_alone
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    first, second = (torch.tensor(rotated_boxes(30, seed)).to(dtype) for seed in (5, 6))
    expected = ops.box_iou_rotated(first.float(), second.float())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        ious = ops.box_iou_rotated(first, second)
    assert ious.dtype == dtype
    assert torch.equal(ious, expected.to(dtype))


@each_device
def test_without_boxes(device):
    some, none = torch.ones(3, 5, device=device), torch.ones(0, 5, device=device)
    assert ops.box_iou_rotated(some, none).shape == (3, 0)
    assert ops.box_iou_rotated(none, some).shape == (0, 3)
    assert ops.box_iou_rotated(none, none, aligned=True).shape == (0,)
    assert ops.nms_rotated(none, none[:, 0], 0.5)[0].shape == (0, 5)
    if STANDS_IN:
        order = torch.empty(0, dtype=torch.int64, device=device)
        kept = EXT.nms_rotated(none, none[:, 0], order, none, none[:, 0], 0.5, False)
        assert kept.shape == (0,) and kept.dtype == torch.int64


@stand_in_alone
def test_many_pairs_go_in_parts(monkeypatch):
    first, second = (torch.tensor(rotated_boxes(50, seed)) for seed in (7, 8))
    expected = ops.box_iou_rotated(first, second), ops.nms_rotated(first, first[:, 0], 0.2)[1]
    monkeypatch.setattr(EXT.rotated, '_PAIRS_AT_ONCE', 7)
    monkeypatch.setattr(EXT.rotated, '_CELLS_AT_ONCE', 120)
    torch.testing.assert_close(ops.box_iou_rotated(first, second), expected[0])
    assert torch.equal(ops.nms_rotated(first, first[:, 0], 0.2)[1], expected[1])


def brute_nms(polygons, scores, threshold, labels=None):
    kept = []
    for i in np.argsort(-np.asarray(scores)):
        rivals = [j for j in kept if labels is None or labels[i] == labels[j]]
        if all(overlap(polygons[i], polygons[j]) <= threshold for j in rivals):
            kept.append(i)
    return kept


@each_device
@pytest.mark.parametrize('threshold', [0.1137, 0.4571])
@pytest.mark.parametrize('clockwise', [True, False])
@pytest.mark.parametrize('labelled', [True, False])
def test_nms_rotated(labelled, clockwise, threshold, device):
    boxes, rng = rotated_boxes(120, seed=9), np.random.default_rng(10)
    scores = rng.permutation(120) / 120
    # Labels do not keep boxes apart in mmcv's operator, `batched_nms` does.
    labels = torch.tensor(rng.integers(0, 3, 120), device=device) if labelled else None
    dets, kept = ops.nms_rotated(
        torch.tensor(boxes, device=device),
        torch.tensor(scores, device=device),
        threshold,
        labels,
        clockwise,
    )
    expected = brute_nms([polygon(box, clockwise) for box in boxes], scores, threshold)
    assert kept.tolist() == expected and len(expected) < 110
    np.testing.assert_array_equal(dets.cpu(), np.column_stack([boxes, scores])[expected])


@stand_in_alone
@each_device
def test_nms_quadri(device):
    boxes, scores = quadrilaterals(100, seed=11), np.random.default_rng(12).permutation(100)
    _, kept = ops.nms_quadri(
        torch.tensor(boxes, device=device), torch.tensor(scores, device=device), 0.2137
    )
    expected = brute_nms([quadrilateral(box) for box in boxes], scores, 0.2137)
    assert kept.tolist() == expected and len(expected) < 90


@each_device
def test_batched_nms_keeps_classes_apart(device):
    boxes, rng = rotated_boxes(80, seed=13), np.random.default_rng(14)
    scores, labels = rng.permutation(80) / 80, rng.integers(0, 3, 80)
    _, kept = ops.batched_nms(
        *(torch.tensor(x, device=device) for x in (boxes, scores, labels)),
        dict(type='nms_rotated', iou_threshold=0.2137),
    )
    polygons = [polygon(box) for box in boxes]
    expected = brute_nms(polygons, scores, 0.2137, labels)
    assert kept.tolist() == expected
    assert len(expected) > len(brute_nms(polygons, scores, 0.2137))


def test_nms_of_equal_boxes_keeps_the_best():
    boxes = torch.tensor([[5.0, 5, 4, 2, 0.3]] * 5)
    _, kept = ops.nms_rotated(boxes, torch.tensor([0.1, 0.2, 0.9, 0.3, 0.5]), 0.99)
    assert kept.tolist() == [2]


def test_compiled():
    first, second = (torch.tensor(rotated_boxes(20, seed)) for seed in (15, 16))
    torch.compiler.reset()
    compiled = torch.compile(ops.box_iou_rotated, backend='aot_eager')
    expected = ops.box_iou_rotated(first, second, aligned=True)
    torch.testing.assert_close(compiled(first, second, aligned=True), expected)
    # As many pairs as meet depend on the numbers: the graph breaks there.
    expected = ops.box_iou_rotated(first, second)
    torch.testing.assert_close(compiled(first, second), expected)


@needs_cuda_code
@stand_in_alone
@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_on_fake_cuda(dtype):
    """Of pairs; which of all meet depends on numbers."""
    with only_fake_cuda():
        boxes = torch.empty(9, 5, device='cuda', dtype=dtype)
        ious = ops.box_iou_rotated(boxes, boxes, aligned=True)
        assert (ious.shape, ious.dtype, ious.device.type) == ((9,), dtype, 'cuda')
        boxes = torch.empty(9, 8, device='cuda', dtype=dtype)
        ious = ops.box_iou_quadri(boxes, boxes, 'iof', aligned=True)
        assert (ious.shape, ious.dtype, ious.device.type) == ((9,), dtype, 'cuda')
