"""`scopevit export`: files that predict what the library does, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.config import Config
from own_images import SMALL_HEADS
from trained import Trained

from scopevit.checkpoint import read_checkpoint
from scopevit.engine.libraries import find_library
from scopevit.engine.model import build_model
from scopevit.errors import InputError
from scopevit.export import compare, export, export_checkpoint
from scopevit.export.exported import description_of
from scopevit.export.graphs import Graph, Images, window_starts
from scopevit.hub import get_config

Make = Callable[[str], Trained]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    'task',
    [
        'detection',
        pytest.param('classification', marks=pytest.mark.slow),
        pytest.param('segmentation', marks=pytest.mark.slow),
        pytest.param('pose', marks=pytest.mark.slow),
    ],
)
def test_onnx_runtime_predicts_what_the_library_does(
    task: str, trained: Make, exported: Callable[[str], Path]
) -> None:
    onnxruntime = pytest.importorskip('onnxruntime')
    out = exported(task)
    made = trained(task)
    assert left(out.parent) == ['mine.onnx', 'mine.onnx.json']
    about = json.loads(description_of(out).read_text())
    assert about['task'] == task
    assert {check['runtime'] for check in about['checks']} == {
        'PyTorch',
        'ONNX Runtime',
        'OpenVINO',
    }

    net = export.load_network(made.checkpoint, None, None)
    batch = export.draw_examples(1, net.size, 3)  # images that the export has not seen
    session = onnxruntime.InferenceSession(str(out))
    assert [x.name for x in session.get_outputs()] == about['outputs']
    found = dict(zip(about['outputs'], session.run(None, {'images': batch})))
    assert compare.problem(compare.compare(net.predict(batch), found)) is None


def save_recipe(name: str, folder: Path, **metainfo: Any) -> Path:
    """Saves a checkpoint of a recipe with small heads and random weights."""
    cfg = get_config(name)
    find_library(cfg.default_scope)
    known = [option.split('=') for option in SMALL_HEADS]
    cfg.merge_from_dict({k: int(v) for k, v in known if k.split('.')[1] in cfg.model})
    torch.manual_seed(0)
    model: Any = build_model(cfg)
    if name.startswith('retinanet'):
        torch.nn.init.zeros_(model.bbox_head.retina_cls.bias)  # or it finds nothing
    meta = {'cfg': cfg.pretty_text, 'dataset_meta': metainfo}
    torch.save({'meta': meta, 'state_dict': model.state_dict()}, folder / 'a.pth')
    return folder / 'a.pth'


@pytest.mark.slow
@pytest.mark.parametrize('dynamic', [False, True])
def test_one_stage_detector(dynamic: bool, tmp_path: Path) -> None:
    checkpoint = save_recipe('retinanet_scopevit-xtiny_fpn_1x_coco', tmp_path, classes=('a',) * 80)
    out = export_checkpoint(checkpoint, out=tmp_path / 'a.onnx', size=(128, 160), dynamic=dynamic)
    about = json.loads(description_of(out).read_text())
    assert about['input']['shape'] == ['batch' if dynamic else 1, 128, 160, 3]
    checks = about['checks']
    assert {check['runtime'] for check in checks} == {'PyTorch', 'ONNX Runtime', 'OpenVINO'}
    assert all(one['deviations']['objects: share of matched ones'] == 1 for one in checks)
    assert ([2, 128, 160, 3] in [one['images'] for one in checks]) == dynamic


def save_with_test_cfg(made: Trained, test_cfg: dict[str, Any], path: Path) -> None:
    """Saves a checkpoint whose model is tested in another way."""
    content: Any = read_checkpoint(made.checkpoint)
    cfg = Config.fromstring(content['meta']['cfg'], '.py')
    cfg.merge_from_dict({'model': {'test_cfg': test_cfg}})
    torch.save(content | {'meta': content['meta'] | {'cfg': cfg.pretty_text}}, path)


@pytest.mark.slow
def test_segmentation_in_windows(trained: Make, tmp_path: Path) -> None:
    pytest.importorskip('onnxruntime')
    windows = dict(_delete_=True, mode='slide', crop_size=(48, 40), stride=(32, 30))
    save_with_test_cfg(trained('segmentation'), windows, tmp_path / 'a.pth')
    out = export_checkpoint(tmp_path / 'a.pth', out=tmp_path / 'a.onnx', size=(96, 72))
    checks = json.loads(description_of(out).read_text())['checks']
    assert {check['runtime'] for check in checks} == {'PyTorch', 'ONNX Runtime', 'OpenVINO'}


@pytest.mark.slow
def test_any_number_of_proposals_on_any_level(trained: Make, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip('onnxruntime')
    many = dict(rpn=dict(nms_pre=500, max_per_img=500))
    save_with_test_cfg(trained('detection'), many, tmp_path / 'a.pth')
    out = export_checkpoint(tmp_path / 'a.pth', out=tmp_path / 'a.onnx')
    net = export.load_network(tmp_path / 'a.pth', None, None)
    session = onnxruntime.InferenceSession(str(out))
    names = [x.name for x in session.get_outputs()]
    (drawn,) = export.draw_examples(1, net.size, 3)
    images = [drawn[::-1], drawn.transpose(1, 0, 2), np.where(drawn > 128, 255, 0)]
    counts = set()
    for image in images:
        batch = np.ascontiguousarray(image[None], np.uint8)
        with torch.no_grad():
            proposals = find_proposals(net, batch)
        counts.add(len(proposals.bboxes))
        found = dict(zip(names, session.run(None, {'images': batch})))
        assert compare.problem(compare.compare(net.predict(batch), found)) is None
    assert len(counts) > 1  # or this shows nothing


def find_proposals(net: Any, batch: np.ndarray) -> Any:
    graph = net.graph()
    maps = graph.model.extract_feat(graph.images(torch.from_numpy(batch)))
    sample = DetDataSample(metainfo=graph.meta())
    return graph.model.rpn_head.predict(maps, [sample], rescale=False)[0]


def test_a_detector_that_finds_nothing(trained: Make, tmp_path: Path) -> None:
    pytest.importorskip('onnxruntime')
    sure = dict(rcnn=dict(score_thr=1.5))
    save_with_test_cfg(trained('detection'), sure, tmp_path / 'a.pth')
    with pytest.raises(InputError, match='nothing is found in the first image: name a folder'):
        export_checkpoint(tmp_path / 'a.pth')
    assert left(tmp_path) == ['a.pth']


@pytest.mark.parametrize('turns', [False, True])
def test_what_becomes_the_padding(turns: bool) -> None:
    # A network of BGR images, from a pipeline that gives them so or RGB.
    mean, std = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
    made = DetDataPreprocessor(mean, std, bgr_to_rgb=False, pad_value=1, pad_size_divisor=4)
    images = Images(made, is_rgb=turns)
    expected = [a + b for a, b in zip(mean, std)]
    # The file takes RGB.
    assert images.fill_color() == pytest.approx(expected if turns else expected[::-1])
    filled: np.ndarray = np.empty((1, 4, 4, 3), np.float32)
    filled[:] = images.fill_color()
    padded = images(torch.from_numpy(filled[:, :3]))  # (1, 3, 4, 4), the last row is padding
    torch.testing.assert_close(padded, torch.ones(1, 3, 4, 4), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ('size', 'side', 'step', 'starts'),
    [
        (10, 4, 3, [0, 3, 6]),
        (11, 4, 3, [0, 3, 6, 7]),  # the last one moves back into the image
        (4, 4, 3, [0]),
        (3, 4, 3, [0]),  # one window, as large as the image
        (512, 512, 341, [0]),
        (683, 512, 341, [0, 171]),
    ],
)
def test_where_windows_begin(size: int, side: int, step: int, starts: list[int]) -> None:
    assert window_starts(size, side, step) == starts


class Counting(Graph):
    """Takes the number of images for a constant."""

    outputs = ('numbers',)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (images.float() + int(images.shape[0]),)


def test_a_number_of_images_that_is_constant() -> None:
    images = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    graph = Counting(None, None)  # type: ignore[arg-type]
    program, takes_many = export.trace_for_any_number(graph, images)
    assert not takes_many
    (numbers,) = program.module()(images[:1])
    assert torch.equal(numbers, torch.ones(1, 4, 5, 3))


def test_a_runtime_that_cannot_run_it() -> None:
    def session(batch: np.ndarray) -> dict[str, np.ndarray]:
        raise RuntimeError('invalid index\nin line 3')

    with pytest.raises(InputError) as raised:
        export.runtimes.run('ONNX Runtime', session, np.zeros((1, 8, 9, 3), np.uint8))
    message = 'ONNX Runtime cannot run images [1, 8, 9, 3]: RuntimeError: invalid index'
    assert str(raised.value) == message


@pytest.mark.slow
@pytest.mark.parametrize('task', ['classification', 'detection', 'segmentation', 'pose'])
def test_weights_in_half_precision(task: str, trained: Make, tmp_path: Path) -> None:
    pytest.importorskip('openvino')
    made = trained(task)
    out = tmp_path / 'mine.xml'
    export_checkpoint(made.checkpoint, 'openvino', out, half=True, images=made.images)
    assert left(tmp_path) == ['mine.bin', 'mine.xml', 'mine.xml.json']
    weights = sum(x.nbytes for x in torch.load(made.checkpoint)['state_dict'].values())
    assert out.with_suffix('.bin').stat().st_size < 0.7 * weights


@pytest.mark.slow
def test_one_file_for_any_size(trained: Make, tmp_path: Path) -> None:
    check_any_size(trained('segmentation').checkpoint, tmp_path)


@pytest.mark.slow
def test_adaptive_pooling_for_any_size(trained: Make, tmp_path: Path) -> None:
    content: Any = read_checkpoint(trained('segmentation').checkpoint)
    cfg = Config.fromstring(content['meta']['cfg'], '.py')
    head: dict[str, Any] = dict(type='UPerHead', pool_scales=(1, 2, 3, 6), _delete_=True)
    kept = ('in_channels', 'in_index', 'channels', 'num_classes', 'norm_cfg', 'loss_decode')
    head |= {name: cfg.model.decode_head[name] for name in kept}
    cfg.merge_from_dict({'model': {'decode_head': head}})
    torch.manual_seed(0)
    state = build_model(cfg).state_dict()
    content['meta']['cfg'] = cfg.pretty_text
    torch.save(content | {'state_dict': state}, tmp_path / 'a.pth')
    check_any_size(tmp_path / 'a.pth', tmp_path)


def check_any_size(checkpoint: Path, folder: Path) -> None:
    onnxruntime = pytest.importorskip('onnxruntime')
    out = export_checkpoint(checkpoint, out=folder / 'mine.onnx', dynamic=True)
    net = export.load_network(checkpoint, None, None)
    session = onnxruntime.InferenceSession(str(out))
    for size in ((32, 32), (97, 131), (40, 600), (224, 320)):
        batch = export.draw_examples(2, size, 3)
        (classes,) = session.run(['classes'], {'images': batch})
        assert classes.shape == (2, *size)
        assert (classes != net.predict(batch)['classes']).mean() < 1e-3


def test_a_file_that_predicts_something_else_is_not_written(
    trained: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('onnxruntime')
    predict = export.Network.predict

    def other(net: Any, batch: np.ndarray) -> dict[str, np.ndarray]:
        return {name: x * 1.01 for name, x in predict(net, batch).items()}

    def write(graph: Any, *args: Any) -> dict[str, Any]:
        args[-1].write_text('a file')
        return {'PyTorch': export.runtimes.graph_session(graph, graph.outputs)}

    monkeypatch.setattr(export.Network, 'predict', other)
    monkeypatch.setattr(export, 'write', write)
    with pytest.raises(InputError, match='PyTorch predicts something else'):
        export_checkpoint(trained('detection').checkpoint, out=tmp_path / 'mine.onnx')
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ('task', 'options', 'message'),
    [
        ('pose', dict(format='tflite'), '--format is one of onnx, openvino, pt2'),
        ('pose', dict(half=True), '--half is for --format openvino'),
        ('pose', dict(out='mine.pt'), '--out: a file of onnx ends in .onnx'),
        ('pose', dict(dynamic=True), '--dynamic: a network for pose takes images of one size'),
        ('pose', dict(size=(96, 96)), '--shape: that of a pose network'),
        ('pose', dict(opset=9), '--opset is 18 to 23'),
        ('segmentation', dict(dynamic=True, format='pt2'), '--dynamic: a pt2 has one size'),
        ('detection', dict(opset=9), '--opset is 16 to 20'),
        ('detection', dict(format='pt2'), '--format pt2: detectors cannot be written so'),
        ('segmentation', dict(size=(16, 64)), '--shape: each side has at least 32 pixels, not 16'),
    ],
)
def test_what_cannot_be_is_one_line(
    task: str, options: dict[str, Any], message: str, trained: Make, tmp_path: Path
) -> None:
    pytest.importorskip('onnxruntime')
    ending = '.pt2' if options.get('format') == 'pt2' else '.onnx'
    out = tmp_path / options.pop('out', f'mine{ending}')
    with pytest.raises(InputError) as raised:
        export_checkpoint(trained(task).checkpoint, out=out, **options)
    assert str(raised.value).startswith(message)
    assert left(tmp_path) == []


def test_shape_by_command(trained: Make, process: Any) -> None:
    # Of a network of poses, any shape but its own is refused.
    checkpoint = trained('pose').checkpoint
    command = ['-m', 'scopevit', 'export', checkpoint, '--format', 'pt2', '--shape']
    done = process(*command, 96, 96)
    assert (done.returncode, done.stderr) == (
        1, 'error: --shape: that of a pose network is the input_size of its codec\n',
    )  # fmt: skip


def test_images_that_are_none(trained: Make, tmp_path: Path) -> None:
    video = tmp_path / 'a.mp4'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'mp4v'), 5, (64, 64))
    writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    with pytest.raises(InputError, match=r'--images takes images, and .*a\.mp4 has none'):
        export_checkpoint(trained('pose').checkpoint, 'pt2', tmp_path / 'a.pt2', images=video)


def test_a_missing_runtime_is_named(
    trained: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)

    monkeypatch.setattr(export.writers.importlib, 'import_module', missing)
    with pytest.raises(InputError, match='onnx is not installed: pip install onnx'):
        export_checkpoint(trained('pose').checkpoint, out=tmp_path / 'mine.onnx')


def test_a_folder_that_cannot_be_written(trained: Make, tmp_path: Path) -> None:
    pytest.importorskip('onnxruntime')
    (tmp_path / 'a').write_text('no folder')
    with pytest.raises(InputError, match=r'^--out: cannot write .*mine\.onnx: (Not a dir|File ex)'):
        export_checkpoint(trained('detection').checkpoint, out=tmp_path / 'a' / 'mine.onnx')


def test_images_lie_evenly_in_their_folder(trained: Make, tmp_path: Path) -> None:
    # As a folder a class would have them: all of the first come before those of the second.
    for name, value in (('a', 0), ('b', 255)):
        (tmp_path / name).mkdir()
        for i in range(8):
            cv2.imwrite(str(tmp_path / name / f'{i}.png'), np.full((40, 40, 3), value, np.uint8))
    net = export.load_network(trained('segmentation').checkpoint, None, None)
    found = export.read_examples(tmp_path, net, 4)
    assert [int(image.mean()) for image in found] == [0, 0, 255, 255]
    assert len(export.read_examples(tmp_path, net, 100)) == 16
