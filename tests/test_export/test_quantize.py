"""Eight bits: what stays in float, and how changed answers are counted."""

import json
import subprocess
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from trained import Trained

from scopevit.errors import InputError
from scopevit.export import export_checkpoint
from scopevit.export.exported import description_of

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
quantize = pytest.importorskip('scopevit.export.quantize')
SIDE = 8


def write_network(path: Path, stretch: float = 1) -> Path:
    """Writes two convolutions and a linear layer over images of 8x8.

    The first channel between the convolutions is `stretch` times as large as the others, and what
    takes it as much smaller: the answers are the same, but 8 bits for all channels lose the others.
    """
    rng = np.random.default_rng(0)
    first = rng.normal(size=(4, 3, 3, 3)).astype(np.float32) / 255
    second = rng.normal(size=(4, 4, 3, 3)).astype(np.float32)
    first[0] *= stretch
    second[:, 0] /= stretch
    last = 0.2 * rng.normal(size=(4, 3)).astype(np.float32)
    weights = {'first': first, 'second': second, 'last': last, 'axes': np.array([2, 3])}
    node = onnx.helper.make_node
    nodes = [
        node('Cast', ['images'], ['floats'], to=onnx.TensorProto.FLOAT),
        node('Transpose', ['floats'], ['x'], perm=[0, 3, 1, 2]),
        node('Conv', ['x', 'first'], ['a'], pads=[1, 1, 1, 1]),
        node('Relu', ['a'], ['b']),
        node('Conv', ['b', 'second'], ['c'], pads=[1, 1, 1, 1]),
        node('Relu', ['c'], ['d']),
        node('ReduceMean', ['d', 'axes'], ['e'], keepdims=0),
        node('MatMul', ['e', 'last'], ['f']),
        node('Softmax', ['f'], ['probabilities']),
    ]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        'network',
        [info('images', onnx.TensorProto.UINT8, ['batch', SIDE, SIDE, 3])],
        [info('probabilities', onnx.TensorProto.FLOAT, ['batch', 3])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [onnx.helper.make_opsetid('', 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def photos(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(count)]


def layers_of(path: Path) -> dict[str, int]:
    """How many layers take what was 8 bits, and how many do not."""
    model = onnx.load(path)
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    kinds = [
        made_by.get(node.input[0]) == 'DequantizeLinear'
        for node in model.graph.node
        if node.op_type in quantize.QUANTIZED
    ]
    return {'int8': sum(kinds), 'float': len(kinds) - sum(kinds)}


def test_all_that_can_is_in_8_bits(tmp_path: Path) -> None:
    path, out = write_network(tmp_path / 'a.onnx'), tmp_path / 'b.onnx'
    found = next(quantize.quantize(path, photos(32), ('probabilities',), out))
    assert 0 < found['share of changed answers'] < 0.01
    assert (found['layers in 8 bits'], found['layers in float']) == (3, [])
    assert layers_of(out) == {'int8': 3, 'float': 0}


def test_layers_that_suffer_stay_in_float(tmp_path: Path) -> None:
    path, out = write_network(tmp_path / 'a.onnx', stretch=1e4), tmp_path / 'b.onnx'
    found = next(quantize.quantize(path, photos(32), ('probabilities',), out))
    assert found['share of changed answers, all layers in 8 bits'] > 0.01
    assert found['share of changed answers'] <= 0.01
    # The first convolution gives channels of such different size, the second takes them.
    assert found['layers in float'] == ['2_Conv', '4_Conv']
    assert layers_of(out) == {'int8': 1, 'float': 2}


def test_the_next_form_has_more_in_float(tmp_path: Path) -> None:
    path, out = write_network(tmp_path / 'a.onnx'), tmp_path / 'b.onnx'
    forms = quantize.quantize(path, photos(32), ('probabilities',), out)
    counts = [
        (layers_of(out)['float'], len(found['layers in float'])) for found in islice(forms, 3)
    ]
    assert counts == [(0, 0), (1, 1), (2, 2)]
    assert list(forms) == []  # the last one would be the network itself


def test_metrics_may_tell_better(tmp_path: Path) -> None:
    path, out = write_network(tmp_path / 'a.onnx', stretch=1e4), tmp_path / 'b.onnx'
    given = path, photos(32), ('probabilities',), out
    forms = [found['layers in float'] for found in quantize.quantize(*given, limit=1)]
    assert [len(layers) for layers in forms] == [0, 1, 2]


def test_all_in_float_is_the_network(tmp_path: Path) -> None:
    path = write_network(tmp_path / 'a.onnx')
    quantizer = quantize.make_quantizer(path, photos(8))
    names = set().union(*quantize.parts_of(quantizer.original))
    assert len(names) == 3
    quantizer.save(names, tmp_path / 'b.onnx')
    model = onnx.load(tmp_path / 'b.onnx')
    assert not [node for node in model.graph.node if 'Quantize' in node.op_type]
    batch = np.stack(photos(4))
    sessions = [quantize.open_onnx(p, ('probabilities',)) for p in (path, tmp_path / 'b.onnx')]
    one, two = (session(batch)['probabilities'] for session in sessions)
    np.testing.assert_allclose(one, two, rtol=1e-6)


def test_a_network_that_cannot(tmp_path: Path) -> None:
    path, out = write_network(tmp_path / 'a.onnx'), tmp_path / 'b.onnx'
    forms = quantize.quantize(path, photos(8), ('probabilities',), out, limit=-0.01)
    with pytest.raises(InputError, match='--int8: each part of the network changes over -1%'):
        next(forms)


def objects(boxes: list[list[float]], scores: list[float]) -> dict[str, np.ndarray]:
    return {
        'boxes': np.array(boxes, np.float32).reshape(-1, 4),
        'scores': np.array(scores, np.float32),
        'labels': np.zeros(len(scores), np.int64),
    }


@pytest.mark.parametrize(
    ('expected', 'found', 'share'),
    [
        # Half of the probability of one image out of two moved: 0.25.
        (
            {'probabilities': np.array([[1.0, 0], [0, 1]])},
            {'probabilities': np.array([[0.5, 0.5], [0, 1]])},
            0.25,
        ),
        ({'classes': np.array([[[0, 1, 2, 3]]])}, {'classes': np.array([[[0, 1, 2, 0]]])}, 0.25),
        # Keypoints 100 pixels apart: a move by one is none, by three is one.
        (
            {'keypoints': np.array([[[0.0, 0], [100, 0]]])},
            {'keypoints': np.array([[[1.0, 0], [100, 3]]])},
            0.5,
        ),
        # Of 0.9 and 0.3 on one side and 0.8 on the other, 0.9 and 0.8 are partners: 0.3 of 2.0.
        (
            objects([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.3]),
            objects([[0, 0, 10, 9]], [0.8]),
            0.15,
        ),
        (
            {'keypoints': np.zeros((1, 2, 2))},
            {'keypoints': np.full((1, 2, 2), np.nan)},
            1,
        ),
        (objects([], []), objects([], []), 0),
        (objects([], []), objects([[0, 0, 1, 1]], [0.5]), 1),
    ],
)
def test_changed_answers(expected: Any, found: Any, share: float) -> None:
    assert quantize.changed(expected, found) == pytest.approx(share)


@pytest.mark.parametrize('loops', [False, True])
def test_a_file_answers_as_its_network(loops: bool) -> None:
    def session(*classes: int) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        return lambda batch: {'classes': np.array([[classes]] * len(batch))}

    images = [np.zeros((2, 2, 3), np.uint8)] * 2
    quantize.check_saved(session(1, 2), session(1, 2), images, loops, 0.01)
    quantize.check_saved(session(1, 2), session(1, 3), images, loops, 0.5)
    with pytest.raises(InputError, match='--int8: 50.0% of the answers change by saving'):
        quantize.check_saved(session(1, 2), session(1, 3), images, loops, 0.01)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(), '--int8 is calibrated on images'),
        (dict(format='pt2'), '--int8 does not go with --format pt2'),
        (dict(format='openvino', half=True), '--int8 does not go with --half'),
        (dict(backbone=True), '--int8 does not go with a backbone alone'),
    ],
)
def test_what_does_not_go_with_it(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        export_checkpoint(tmp_path / 'none.pth', int8=True, **options)


@pytest.mark.slow
def test_export(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    made, folder = trained('segmentation'), tmp_path / 'images'
    folder.mkdir()
    given = dict(format='openvino', out=tmp_path / 'a.xml', images=folder, int8=True)
    photo = cv2.imread(str(next(made.images.iterdir())))
    for i in range(7):
        cv2.imwrite(str(folder / f'{i}.png'), np.roll(photo, 5 * i, axis=1))
    with pytest.raises(InputError, match='--int8 takes at least 8 images, and .* has 7'):
        export_checkpoint(made.checkpoint, **given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['images']
    cv2.imwrite(str(folder / '7.png'), photo)
    out = export_checkpoint(made.checkpoint, **given, data=str(made.config))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'a.bin',
        'a.xml',
        'a.xml.json',
        'images',
    ]
    about = json.loads(description_of(out).read_text())
    assert about['int8']['layers in 8 bits'] > 0
    assert about['int8']['milliseconds'].keys() == {'float', '8 bits'}
    assert about['metrics']['file'].keys() == about['metrics']['checkpoint'].keys()
    for name in ('aAcc', 'mIoU'):  # percent
        assert about['metrics']['file'][name] >= about['metrics']['checkpoint'][name] - 1


MEMORY_OF_CALIBRATION = """
import resource, sys
from pathlib import Path
import numpy as np
from scopevit.export.quantize import make_quantizer

image = np.zeros((512, 512, 3), np.uint8)
peaks = []
for path in map(Path, sys.argv[1:]):
    make_quantizer(path, [image])
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(peaks[1] - peaks[0])
"""


def write_chain(path: Path, count: int) -> Path:
    """Writes as many convolutions of 8 channels, whose maps take 8 MiB each of 512x512."""
    rng = np.random.default_rng(0)
    channels = [3] + [8] * count
    weights = [rng.normal(size=(8, c, 1, 1)).astype(np.float32) / 8 for c in channels[:-1]]
    tensors = [onnx.numpy_helper.from_array(value, f'w{i}') for i, value in enumerate(weights)]
    node = onnx.helper.make_node
    convolutions = [node('Conv', [f'x{i}', f'w{i}'], [f'x{i + 1}']) for i in range(count)]
    nodes = [
        node('Cast', ['images'], ['floats'], to=onnx.TensorProto.FLOAT),
        node('Transpose', ['floats'], ['x0'], perm=[0, 3, 1, 2]),
        *convolutions,
        node('GlobalAveragePool', [f'x{count}'], ['out']),
    ]
    info = onnx.helper.make_tensor_value_info
    inputs = [info('images', onnx.TensorProto.UINT8, [1, 512, 512, 3])]
    outputs = [info('out', onnx.TensorProto.FLOAT, [1, 8, 1, 1])]
    graph = onnx.helper.make_graph(nodes, 'chain', inputs, outputs, tensors)
    opsets = [onnx.helper.make_opsetid('', 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_calibration_keeps_no_maps(
    process: Callable[..., subprocess.CompletedProcess], tmp_path: Path
) -> None:
    short, long = write_chain(tmp_path / 'a.onnx', 2), write_chain(tmp_path / 'b.onnx', 42)
    done = process('-c', MEMORY_OF_CALIBRATION, short, long)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 160  # MiB, of 320 for the maps
