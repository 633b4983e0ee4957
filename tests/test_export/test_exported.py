"""Exported files in the place of a checkpoint: `predict` and `test` by them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from trained import Trained

from scopevit import Predictor
from scopevit.engine import test as run_test
from scopevit.errors import InputError
from scopevit.export.exported import ExportedModel, description_of

Make = Callable[[str], Trained]
Exported = Callable[[str], Path]
TASKS = [
    'detection',
    *(pytest.param(t, marks=pytest.mark.slow) for t in ('classification', 'segmentation', 'pose')),
]


def numbers(result: Any) -> dict[str, Any]:
    return {key: value for key, value in vars(result).items() if isinstance(value, np.ndarray)}


@pytest.mark.parametrize('task', TASKS)
def test_predicts_as_the_checkpoint_does(task: str, trained: Make, exported: Exported) -> None:
    made = trained(task)
    options: dict[str, Any] = dict(min_score=0, device='cpu')
    theirs = Predictor(made.checkpoint, **options)
    ours = Predictor(exported(task), **options)
    assert (ours.task, ours.labels) == (theirs.task, theirs.labels)
    pairs = list(zip(ours(str(made.images)), theirs(str(made.images)), strict=True))
    assert len(pairs) > 1
    for mine, other in pairs:
        assert mine.name == other.name
        if task == 'segmentation':
            assert (mine.class_map == other.class_map).mean() > 0.999
            continue
        for name, value in numbers(other).items():
            np.testing.assert_allclose(
                numbers(mine)[name], value, rtol=1e-3, atol=1e-3, err_msg=name
            )
        if task == 'detection':
            masks = [coco_mask.decode(list(result.rles)) for result in (mine, other)]
            assert (masks[0] == masks[1]).mean() > 0.999
            assert masks[0].any()


@pytest.mark.parametrize('task', TASKS)
def test_tests_as_the_checkpoint_does(
    task: str, trained: Make, exported: Exported, tmp_path: Path
) -> None:
    made = trained(task)
    found = [
        run_test(made.config, path, work_dir=str(tmp_path / name))
        for name, path in (('a', made.checkpoint), ('b', exported(task)))
    ]
    assert found[0] and found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, abs=1e-4), name


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    """An exported file of its own, to be damaged."""
    path = exported('detection')
    for file in (path, description_of(path)):
        shutil.copy(file, tmp_path)
    return tmp_path / 'mine.onnx'


def test_a_damaged_file(copied: Path) -> None:
    copied.write_bytes(copied.read_bytes()[:1000])
    with pytest.raises(InputError, match=r'mine\.onnx is damaged, or not the file'):
        Predictor(copied)


def test_a_file_that_is_not_ours(copied: Path) -> None:
    description_of(copied).unlink()
    with pytest.raises(
        InputError, match=r'no such file: .*mine\.onnx\.json; scopevit export writes it'
    ):
        Predictor(copied)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', r'mine\.onnx\.json is no JSON'),
        ('[' * 100_000, r'mine\.onnx\.json is no JSON'),
        ('[]', r'mine\.onnx\.json is not of scopevit export'),
        ('{}', r'mine\.onnx\.json is not of scopevit export: no task, config, input'),
    ],
)
def test_a_description_that_is_none(text: str, message: str, copied: Path) -> None:
    description_of(copied).write_text(text)
    with pytest.raises(InputError, match=message):
        Predictor(copied)


@pytest.mark.parametrize(
    ('change', 'missing'),
    [
        (dict(config=5), 'config'),
        (dict(outputs='boxes', classes=None), 'outputs, classes'),
        (dict(input={'shape': [1, 2]}), r'input\.shape'),
        (dict(settings={}), r'settings\.pipeline, settings\.fill'),
        (
            dict(task='segmentation', settings={'pipeline': 'BGR'}),
            r'settings\.divisor, settings\.align_corners',
        ),
        (dict(outputs=[3]), 'outputs'),
    ],
)
def test_a_description_of_other_types(change: dict[str, Any], missing: str, copied: Path) -> None:
    beside = description_of(copied)
    beside.write_text(json.dumps(json.loads(beside.read_text()) | change))
    with pytest.raises(InputError, match=f': no {missing}, or of another type'):
        Predictor(copied)


def test_a_description_runs_no_code(copied: Path) -> None:
    beside = description_of(copied)
    about = json.loads(beside.read_text())
    beside.write_text(json.dumps(about | {'config': 'import os'}))
    with pytest.raises(InputError, match=r'mine\.onnx\.json: line 1'):
        Predictor(copied)


def test_a_backbone_alone(copied: Path) -> None:
    beside = description_of(copied)
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {'task': 'backbone'}))
    with pytest.raises(InputError, match='is a backbone alone, which gives maps and no answers'):
        Predictor(copied)


def test_a_task_that_is_none(copied: Path) -> None:
    beside = description_of(copied)
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {'task': 'x'}))
    with pytest.raises(InputError, match="is for 'x', which is none of classification, segment"):
        Predictor(copied)


def test_outputs_that_the_file_lacks(copied: Path) -> None:
    beside = description_of(copied)
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {'outputs': ['x']}))
    with pytest.raises(InputError, match=r'mine\.onnx cannot run images'):
        Predictor(copied)([np.zeros((64, 64, 3), np.uint8)])


def test_a_config_of_another_task(trained: Make, exported: Exported) -> None:
    with pytest.raises(InputError, match=r'mine\.onnx is for detection, and .* for segmentation'):
        Predictor(exported('detection'), config=trained('segmentation').config)


def test_a_detector_that_is_exported(
    trained: Make, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a pose network on a GPU: the detector, on the CPU, is not asked to be there as well.
    monkeypatch.setattr('scopevit.inference.network.device_of', lambda model: 'cuda:0')
    pose = Predictor(trained('pose').checkpoint, 'cpu', detector=exported('detection'))
    assert pose.device == 'cuda:0'


def test_several_processes(trained: Make, exported: Exported, tmp_path: Path) -> None:
    made, path = trained('detection'), exported('detection')
    with pytest.raises(InputError, match=r'--launcher pytorch: .*mine\.onnx runs in one process'):
        run_test(made.config, path, work_dir=str(tmp_path), launcher='pytorch')


def test_a_pt2_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'may run code that a \.pt2 has in it'):
        Predictor(tmp_path / 'mine.pt2')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(device='cuda'), 'exported files run on the CPU'),
        (dict(half=True), '--half: ExportedModel has no backbone'),
        (dict(compile=True), '--compile: ExportedModel has no backbone'),
    ],
)
def test_what_an_export_cannot(options: dict[str, Any], message: str, exported: Exported) -> None:
    with pytest.raises(InputError, match=message):
        Predictor(exported('detection'), **options)


def test_another_task(trained: Make, exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'mine\.onnx is for detection, and .* for segmentation'):
        run_test(trained('segmentation').config, exported('detection'), work_dir=str(tmp_path))


def test_augmentations(trained: Make, exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'--tta: .*mine\.onnx has its test in it'):
        run_test(
            trained('detection').config, exported('detection'), work_dir=str(tmp_path), tta=True
        )


@pytest.fixture
def shaped(exported: Exported, tmp_path: Path) -> Callable[..., ExportedModel]:
    """A function that opens a detector or other file as one that takes images of some size."""

    def open_as(task: str, height: int, width: int) -> ExportedModel:
        for file in (exported(task), description_of(exported(task))):
            shutil.copy(file, tmp_path)
        beside = tmp_path / 'mine.onnx.json'
        about = json.loads(beside.read_text())
        about['input']['shape'][1:3] = [height, width]
        beside.write_text(json.dumps(about))
        return ExportedModel(tmp_path / 'mine.onnx')

    return open_as


@pytest.mark.parametrize(
    ('task', 'message'),
    [
        ('detection', r'takes images of at most 32x48 \(height x width\), and .* gives 40x40'),
        pytest.param(
            'segmentation',
            r'takes images of 32x48 \(height x width\), and the test pipeline gives 40x40: export '
            'with --dynamic',
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_image_of_another_size(
    task: str, message: str, shaped: Callable[..., ExportedModel]
) -> None:
    model = shaped(task, 32, 48)
    with pytest.raises(InputError, match=message):
        model([torch.zeros(3, 40, 40, dtype=torch.uint8)], [None])


def test_training_is_refused(exported: Exported) -> None:
    with pytest.raises(InputError, match='predicts alone, it cannot loss'):
        ExportedModel(exported('detection'))([], [], mode='loss')
