"""The trial of a model: what is good of the miniature tasks, and what is found of spoilt ones."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from tasks import Task
from torch import nn

from scopevit.engine.config import load_config
from scopevit.engine.libraries import find_library
from scopevit.preflight import model, overfit
from scopevit.preflight.model import check_model
from scopevit.preflight.overfit import Fit, has_labels, judge, make_repeatable
from scopevit.preflight.report import ModelReport, caught
from scopevit.preflight.steps import (
    StepTime,
    check_loading,
    check_losses,
    duration,
    watch_gradients,
)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModelReport]:
    """A function that tries the model of a task, with some settings changed, in few steps."""
    monkeypatch.setattr(overfit, 'STEPS', overfit.FEWEST)

    def run(task: Task, **changes: object) -> ModelReport:
        options = {key.replace('__', '.'): value for key, value in changes.items()}
        cfg = load_config(task.config, options)
        return check_model(cfg, find_library(cfg.default_scope), lambda line: None)

    return run


def whats(report: ModelReport) -> list[tuple[str, str]]:
    return [(finding.level, finding.what) for finding in report.findings]


def test_networks_are_told_the_iteration(make_task, check, monkeypatch):
    told = []

    def look(*args: object) -> None:
        hub = MessageHub.get_current_instance()
        told.append([hub.get_info(key) for key in ('iter', 'epoch', 'max_epochs')])

    for name in ('check_steps', 'check_validation', 'check_overfit'):
        monkeypatch.setattr(model, name, look)
    check(make_task('classification'), train_cfg__max_epochs=3)
    assert told == [[0, 0, 3]] * 3


# A hundredth of a rate as high as the miniatures' learns little in few steps.
RATE = 0.3


@pytest.mark.parametrize('name', ['classification', 'segmentation'])
def test_nothing_found(name, make_task, check, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = make_task(name)
    before = sorted(tmp_path.rglob('*'))
    report = check(task, optim_wrapper__optimizer__lr=RATE)
    assert report.findings == []
    facts = dict(report.facts)
    assert list(facts) == [
        'parameters', 'memory of a step', 'losses of the first step', 'time of a step',
        'time of an epoch', 'time of the training', 'time of a validation', 'loss on eight images',
    ]  # fmt: skip
    # Eight images by 4, or four by 2.
    assert facts['time of an epoch'].endswith('for 2 steps')
    first = float(facts['losses of the first step'].split('loss ')[1].split(',')[0])
    # A new head knows no class: the logarithm of 3, of 4.
    assert first == pytest.approx(math.log(3 if name == 'classification' else 4), abs=0.4)
    assert sorted(tmp_path.rglob('*')) == before  # nothing was written


@pytest.mark.slow
@pytest.mark.parametrize('name', ['detection', 'pose'])
def test_nothing_found_of_boxes_and_poses(name, make_task, check):
    report = check(make_task(name), optim_wrapper__optimizer=dict(type='AdamW', lr=0.01))
    assert report.findings == []


def test_same_twice(make_task, check):
    task = make_task('classification')
    runs = [dict(check(task, optim_wrapper__optimizer__lr=RATE).facts) for _ in range(2)]
    for name in ('losses of the first step', 'loss on eight images', 'memory of a step'):
        assert runs[0][name] == runs[1][name]


def test_rate_of_0(make_task, check):
    report = check(make_task('classification'), optim_wrapper__optimizer__lr=0.0)
    assert whats(report) == [('error', 'learning rate 0')]
    assert report.findings[0].where == 'optim_wrapper.optimizer.lr'


def test_rate_far_too_high(make_task, check):
    report = check(make_task('classification'), optim_wrapper__optimizer__lr=1e4)
    assert whats(report)[0] in [
        ('error', 'loss rises on eight images'), ('error', 'loss not finite'),
    ]  # fmt: skip
    assert 'too high' in report.findings[0].text


def test_rate_far_too_low(make_task, check):
    report = check(make_task('classification'), optim_wrapper__optimizer__lr=1e-9)
    assert whats(report) == [('warning', 'loss does not fall on eight images')]


def test_frozen(make_task, check):
    task = make_task('classification')
    with task.config.open('a') as file:
        file.write("custom_imports = dict(imports=['frozen'], allow_failed_imports=False)\n")
        file.write(
            "model = dict(type='Frozen', **{k: v for k, v in model.items() if k != 'type'})\n"
        )
    task.config.with_name('frozen.py').write_text(
        'import scopevit\n'
        'from mmpretrain.models import ImageClassifier\n'
        'from mmpretrain.registry import MODELS\n'
        '@MODELS.register_module(force=True)\n'
        'class Frozen(ImageClassifier):\n'
        '    def __init__(self, **settings):\n'
        '        super().__init__(**settings)\n'
        '        self.requires_grad_(False)\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(task.config.parent))
        assert whats(check(task)) == [('error', 'nothing is trained')]


def test_all_labels_ignored(make_task, check):
    task = make_task('segmentation')
    for path in (task.data / 'masks').iterdir():
        cv2.imwrite(str(path), np.full((250, 250), 255, np.uint8))
    assert whats(check(task)) == [('error', 'loss 0')]


def test_damaged_image(make_task, check):
    task = make_task('classification')
    for path in (task.data / 'images').iterdir():
        path.write_bytes(b'not an image')
    report = check(task)
    assert whats(report) == [('error', 'a training step fails')]
    assert '.png' in report.findings[0].text
    assert '\n' not in report.findings[0].text


def test_metric_that_fails(make_task, check):
    # Two best guesses of three classes are fine, five of them are not.
    report = check(make_task('classification'), val_evaluator__topk=(1, 5))
    assert whats(report) == [('error', 'a validation step fails')]
    assert report.findings[0].where == 'val_dataloader'


def test_config_that_does_not_build(make_task, check):
    report = check(make_task('classification'), model__head__in_chanels=32)
    assert whats(report) == [('error', 'building the model and the loaders fails')]
    assert 'in_chanels' in report.findings[0].text


def test_out_of_memory():
    report = ModelReport()
    cfg = Config(dict(train_dataloader=dict(batch_size=64)))
    with caught(report, 'a training step', 'train_dataloader', cfg):
        raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')
    assert whats(report) == [('error', 'out of memory')]
    assert 'batch_size is 64' in report.findings[0].text
    assert '--amp' in report.findings[0].text


def test_errors_of_processes_that_load():
    report = ModelReport()
    with caught(report, 'a training step', 'train_dataloader', Config()):
        raise KeyError(
            'Caught KeyError in DataLoader worker process 0.\nOriginal Traceback (most recent):\n'
            "  File 'x.py', line 1\nKeyError: 'gt_label'\n"
        )
    assert report.findings[0].text.endswith("KeyError: 'gt_label'")


def test_gradients():
    model = nn.ModuleDict(
        dict(used=nn.Linear(2, 1), unused=nn.Linear(2, 1), frozen=nn.Linear(2, 1))
    )
    model['frozen'].requires_grad_(False)
    with watch_gradients(model) as gradients:
        # The root of 0 has a slope without end.
        model['used'](torch.zeros(1, 2)).sub(model['used'].bias).sqrt().sum().backward()
    assert gradients.missing == {'unused.weight', 'unused.bias'}
    assert gradients.infinite == {'used.weight', 'used.bias'}


@pytest.mark.parametrize(
    ('losses', 'found'),
    [
        ([dict(loss=1.0, loss_cls=1.0)] * 2, []),
        ([dict(loss=1.0, loss_bbox=0.0)] * 2, [('warning', 'part of the loss 0')]),
        ([dict(loss=1.0, loss_bbox=0.0), dict(loss=1.0, loss_bbox=0.1)], []),
        ([dict(loss=0.0)] * 2, [('error', 'loss 0')]),
        ([dict(loss=math.nan)] * 2, [('error', 'loss not finite')]),
    ],
)
def test_losses(losses, found):
    report = ModelReport()
    check_losses(losses, report)
    assert whats(report) == found


def test_loader_that_bounds():
    alone = StepTime(network=0.2, loading=0.6, workers=0)
    assert (alone.waiting, alone.step) == (0.6, pytest.approx(0.8))
    report = ModelReport()
    check_loading(alone, report)
    assert whats(report) == [('note', 'loading bounds the training')]
    assert '3 processes would keep up' in report.findings[0].text
    beside = StepTime(network=0.7, loading=0.6, workers=1)
    assert (beside.waiting, beside.step) == (0, 0.7)
    check_loading(beside, report)
    assert len(report.findings) == 1


def test_steps_too_slow_to_overfit(make_task, check, monkeypatch):
    monkeypatch.setattr(overfit, 'SECONDS', 1e-6)
    report = check(make_task('classification'))
    assert whats(report) == [('note', 'overfitting not tried')]
    assert 'loss on eight images' not in dict(report.facts)


@pytest.mark.parametrize(
    ('fits', 'found'),
    [
        ([Fit(0.1, 40, 2.0, 1.7, True)], []),
        ([Fit(0.1, 40, 2.0, 1.9, True), Fit(1.0, 40, 2.0, 1.0, True)], []),
        (
            [Fit(r, 40, 2.0, last, True) for r, last in ((0.1, 9.0), (1.0, math.nan), (0.01, 1.0))],
            [('warning', 'learning rate high')],
        ),
        (
            [Fit(r, 40, 2.0, 1.99, True) for r in (0.1, 1.0, 0.01)],
            [('warning', 'loss does not fall on eight images')],
        ),
        (
            [Fit(r, 40, 2.0, last, True) for r, last in ((0.1, math.nan), (1.0, 9.0), (0.01, 3.0))],
            [('error', 'loss rises on eight images')],
        ),
        (
            [
                Fit(r, 40, 2.0, last, True)
                for r, last in ((0.1, math.nan), (1.0, math.nan), (0.01, 1.9))
            ],
            [('warning', 'loss does not fall on eight images')],
        ),
        ([Fit(0.1, 3, 2.0, 2.0, False)], [('note', 'overfitting not judged')]),
    ],
)
def test_judgement(fits, found):
    report = ModelReport()
    judge(fits, 1e-3, report)
    assert whats(report) == found


def test_chance_is_switched_off():
    class DropPath(nn.Module):
        pass

    model = nn.Sequential(nn.Dropout(0.5), DropPath(), nn.BatchNorm2d(1))
    model.data_preprocessor = nn.Identity()
    model.data_preprocessor.batch_augments = ['mixup']
    make_repeatable(model.eval())
    assert [module.training for module in model[:3]] == [False, False, True]
    assert model.data_preprocessor.batch_augments is None


@pytest.mark.parametrize(('value', 'labels'), [(255, False), (3, True)])
def test_labels_of_a_map(value, labels):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.full((1, 4, 4), value)))
    assert has_labels(sample, 255) == labels


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(0.53, '0.53 s'), (90, '2 min'), (4000, '1 h 7 min'), (201_600, '2 d 8 h')],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
