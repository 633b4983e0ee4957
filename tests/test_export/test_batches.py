"""Detectors for any number of images."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from trained import Trained

from scopevit.errors import InputError
from scopevit.export import export_checkpoint, runtimes, writers
from scopevit.export.exported import ExportedModel

OUTPUTS = ('boxes', 'scores', 'labels', 'masks')


@pytest.fixture
def looped(tmp_path: Path) -> Path:
    """A network that finds as many objects as the first pixel says, four at most, in a loop."""
    onnx = pytest.importorskip('onnx')
    from scopevit.export import batches

    one = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        one (uint8[1, 2, 2, 1] images) =>
            (float[D, 4] boxes, float[D] scores, int64[D] labels, bool[D, 2, 2] masks)
        {
            start = Constant <value = int64[1] {0}> ()
            last = Constant <value = int64[1] {1}> ()
            all = Constant <value = int64[1] {-1}> ()
            flat = Reshape(images, all)
            first = Slice(flat, start, last)
            count = Cast <to = 7> (first)
            four = Constant <value = int64[4] {1, 2, 3, 4}> ()
            labels = Slice(four, start, count)
            scores = Cast <to = 1> (labels)
            wide = Constant <value = int64[1] {4}> ()
            axis = Constant <value = int64[1] {1}> ()
            shape = Concat <axis = 0> (count, wide)
            column = Unsqueeze(scores, axis)
            boxes = Expand(column, shape)
            side = Constant <value = int64[2] {2, 2}> ()
            maps = Concat <axis = 0> (count, side)
            cube = Unsqueeze(column, axis)
            even = Expand(cube, maps)
            limit = Constant <value = float {1.5}> ()
            masks = Greater(even, limit)
        }
    """)
    path = tmp_path / 'looped.onnx'
    onnx.save(batches.loop_over_images(one, most=4), path)
    onnx.checker.check_model(path, full_check=True)
    return path


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_each_image_has_a_number_of_its_own(runtime: str, looped: Path) -> None:
    pytest.importorskip(runtime)
    opener = runtimes.open_onnx if runtime == 'onnxruntime' else runtimes.open_openvino
    session = opener(looped, OUTPUTS)
    images = np.zeros((3, 2, 2, 1), np.uint8)
    images[:, 0, 0, 0] = 2, 0, 4
    found = session(images)
    assert found['labels'].tolist() == [[1, 2, -1, -1], [-1, -1, -1, -1], [1, 2, 3, 4]]
    assert found['scores'].tolist() == [[1, 2, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]]
    assert found['boxes'][0].tolist() == [[1] * 4, [2] * 4, [0] * 4, [0] * 4]
    assert found['masks'].dtype == bool
    assert found['masks'].any(axis=(2, 3)).tolist() == [
        [False, True, False, False], [False] * 4, [False, True, True, True],
    ]  # fmt: skip
    assert [len(one['labels']) for one in runtimes.split(found)] == [2, 0, 4]
    assert [len(one['masks']) for one in runtimes.split(found)] == [2, 0, 4]
    assert session(images[:1])['labels'].shape == (1, 4)


def test_a_detector_for_any_number_of_images(
    trained: Callable[[str], Trained], exported: Callable[[str], Path], tmp_path: Path
) -> None:
    made = trained('detection')
    one = ExportedModel(exported('detection'))
    out = export_checkpoint(
        made.checkpoint, out=tmp_path / 'many.onnx', images=made.images, dynamic=True
    )
    many = ExportedModel(out)
    assert many.about['input']['shape'] == ['batch', *one.about['input']['shape'][1:]]
    random = np.random.default_rng(0)
    images = [
        torch.from_numpy(random.integers(0, 256, (3, *size), dtype=np.uint8))
        for size in ((96, 128), (128, 64), (128, 128))
    ]
    for mine, theirs in zip(many(images, samples()), one(images, samples()), strict=True):
        assert len(mine.pred_instances) > 0
        for name in ('bboxes', 'scores', 'labels', 'masks'):
            a, b = (getattr(x.pred_instances, name) for x in (mine, theirs))
            torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b))


def samples() -> list[Any]:
    from mmdet.structures import DetDataSample

    meta = dict(scale_factor=(1.0, 1.0), ori_shape=(128, 128))
    return [DetDataSample(metainfo=meta) for _ in range(3)]


@pytest.mark.parametrize(('format', 'ending'), [('onnx', 'onnx'), ('openvino', 'xml')])
def test_eight_bits_go_into_the_loop(format: str, ending: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('openvino')
    quantize = pytest.importorskip('scopevit.export.quantize')
    # Four objects whose scores are the pixels.
    network = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        one (uint8[1, 2, 2, 1] images) => (float[4, 4] boxes, float[4] scores, int64[4] labels)
        <float[1, 1, 1, 1] weight = {0.00390625}>
        {
            numbers = Cast <to = 1> (images)
            x = Transpose <perm = [0, 3, 1, 2]> (numbers)
            y = Conv(x, weight)
            all = Constant <value = int64[1] {-1}> ()
            scores = Reshape(y, all)
            labels = Constant <value = int64[4] {0, 1, 2, 3}> ()
            box = Constant <value = float[1, 4] {0, 0, 9, 9}> ()
            boxes = Concat <axis = 0> (box, box, box, box)
        }
    """)
    onnx.save(network, tmp_path / 'a.onnx')
    graph: Any = SimpleNamespace(outputs=('boxes', 'scores', 'labels'), most=6, takes_many=False)
    random = np.random.default_rng(0)
    images = list(random.integers(0, 256, (8, 2, 2, 1), dtype=np.uint8))
    path = tmp_path / f'a.{ending}'
    found = next(quantize.write_int8(path, images, graph, loops=True))
    assert (found['layers in 8 bits'], graph.takes_many) == (1, True)
    calibrated_on = np.stack(images[::2])
    answers = runtimes.open_session(path, graph.outputs)(calibrated_on)
    assert answers['labels'].tolist() == [[0, 1, 2, 3, -1, -1]] * 4
    expected = calibrated_on.reshape(4, 4) / 256
    np.testing.assert_allclose(answers['scores'][:, :4], expected, atol=1 / 128)
    assert not (answers['scores'][:, :4] == expected).all()  # or it is in float


def test_a_detector_without_a_limit(tmp_path: Path) -> None:
    pytest.importorskip('onnx')

    class Endless:
        most = None

    with pytest.raises(InputError, match='test_cfg has no max_per_img above 0'):
        writers.loop_over_images(Endless(), tmp_path / 'a.onnx')  # type: ignore[arg-type]
