"""The demo as a process: every recipe trained for a moment, interrupted, gone on with, tested."""

import importlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from scopevit import ScopeViT
from scopevit.errors import InputError

ROOT = Path(__file__).parents[2]
RUN = ROOT / 'tools' / 'demo' / 'run.py'
FEW_IMAGES = [
    'train_dataloader.dataset.indices=8',
    'train_dataloader.batch_size=4',
    'val_dataloader.dataset.indices=4',
]
# How long a run is, and how often it is checked, once and then again for longer.
BY_EPOCH = 'train_cfg.max_epochs={n} train_cfg.val_interval=1 default_hooks.checkpoint.interval=1'
BY_ITER = 'train_cfg.max_iters={n} train_cfg.val_interval=1 default_hooks.checkpoint.interval=1'
LENGTHS = {
    'classification': BY_EPOCH,
    'segmentation': BY_ITER,
    'detection': BY_EPOCH,
    'pose': BY_EPOCH,
}
METRICS = {
    'classification': ['accuracy'],
    'segmentation': ['mIoU'],
    'detection': ['box AP50', 'mask AP50'],
    'pose': ['keypoint AP'],
}


@pytest.fixture
def run(monkeypatch):
    """tools/demo/run.py as a module."""
    monkeypatch.syspath_prepend(str(RUN.parent))
    monkeypatch.delitem(sys.modules, 'run', raising=False)  # that of tools/trials
    return importlib.import_module('run')


def command(task, out, length):
    options = [*FEW_IMAGES, *LENGTHS[task].format(n=length).split()]
    if task == 'classification':
        # mmpretrain reads idx files whole; 20 test images are drawn and counted all the same.
        options[2] = 'val_dataloader.dataset.indices=20'
    return [sys.executable, RUN, '--task', task, '--out', out, '--cfg-options', *options]


def finish_segmentation(out):
    """Puts a segmentation demo there that left a backbone, for the detection demo."""
    folder = out / 'segmentation'
    folder.mkdir(parents=True)
    backbone = ScopeViT('xtiny', layer_scale_init_value=0.1).state_dict()
    state_dict = {f'backbone.{name}': value for name, value in backbone.items()}
    torch.save({'state_dict': state_dict}, folder / 'best_mIoU_iter_1.pth')
    result = {
        'metrics': {'mIoU': 0.5},
        'baselines': {'all background': {'mIoU': 0.22}},
        'minutes': 1.0,
        'checkpoint': 'segmentation/best_mIoU_iter_1.pth',
        'picture': 'segmentation.png',
    }
    (folder / 'result.json').write_text(json.dumps(result))
    cv2.imwrite(str(out / 'segmentation.png'), np.zeros((30, 40, 3), np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize('task', ['classification', 'segmentation', 'detection', 'pose'])
def test_recipe_trains_tests_and_goes_on(task, tmp_path):
    out = tmp_path / 'demo'
    if task == 'detection':
        finish_segmentation(out)
    done = subprocess.run(command(task, out, 1), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((out / task / 'result.json').read_text())
    assert list(result['metrics']) == METRICS[task]
    assert all(0 <= value <= 1 for value in result['metrics'].values())
    assert all(list(values) == METRICS[task] for values in result['baselines'].values())
    assert (out / result['checkpoint']).is_file()
    assert cv2.imread(str(out / result['picture'])).std() > 10  # something is drawn
    row = next(line for line in done.stdout.splitlines() if line.startswith(f'| {task} |'))
    assert row in (out / 'README.md').read_text()
    for name, value in result['metrics'].items():
        assert f'{name} **{value:.3f}**' in row
    metrics = json.loads((out / task / 'test' / 'metrics.json').read_text())
    assert metrics['parameters']['total'] > metrics['parameters']['backbone'] > 5_000_000
    if task == 'detection':
        log = (out / task / 'train.log').read_text()
        assert str(out / 'segmentation' / 'best_mIoU_iter_1.pth') in log

    # A finished task is not done again; one whose result is gone goes on from its checkpoint.
    before = (out / task / 'train.log').stat().st_size
    (out / task / 'result.json').unlink()
    done = subprocess.run(command(task, out, 2), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    log = (out / task / 'train.log').read_text()[before:]
    assert re.search(r'resumed epoch: [01], iter: [12]\b', log), log[-2000:]
    done = subprocess.run(command(task, out, 2), capture_output=True, text=True)
    assert done.returncode == 0 and 'starting' not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_goes_on(stop, tmp_path):
    out = tmp_path / 'demo'
    process = subprocess.Popen(
        command('pose', out, 40), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not (out / 'pose' / 'last_checkpoint').is_file() and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(stop)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stdout + stderr
    assert 'the same command goes on from here' in stderr and 'Traceback' not in stderr
    assert not (out / 'pose' / 'result.json').exists()
    log = (out / 'pose' / 'train.log').read_bytes()
    time.sleep(2)
    assert (out / 'pose' / 'train.log').read_bytes() == log  # the training has stopped, too
    reached = int(re.search(r'epoch_(\d+)', (out / 'pose' / 'last_checkpoint').read_text())[1])

    done = subprocess.run(command('pose', out, reached + 1), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'resumed epoch: {reached},' in (out / 'pose' / 'train.log').read_text()
    assert json.loads((out / 'pose' / 'result.json').read_text())['metrics'].keys() == {
        'keypoint AP'
    }


def test_a_failing_tool_is_one_line(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            RUN,
            '--task',
            'pose',
            '--out',
            tmp_path,
            '--cfg-options',
            'model.neck.x=1',
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith('error: tools/train.py stopped: ') and 'train.log' in line


def test_plan(run):
    names = ['classification', 'segmentation', 'detection', 'pose']
    assert [task.name for task in run.plan(None, {})] == names
    assert [task.name for task in run.plan('detection', {})] == ['segmentation', 'detection']
    assert [task.name for task in run.plan('detection', {'segmentation': {}})] == ['detection']
    assert [task.name for task in run.plan(None, {'pose': {}, 'classification': {}})] == names[1:3]
    with pytest.raises(InputError, match="classification, .* pose, not 'poses'"):
        run.plan('poses', {})


@pytest.mark.parametrize(
    'line, epoch, step, eta',
    [
        (
            '11/23 00:39:58 - mmengine - INFO - Epoch(train)  [4][ 6/24]  base_lr: 1.0e-03 '
            'lr: 1.0e-03  eta: 0:11:15  time: 2.3  loss: 1.7442',
            '4',
            '6/24',
            '0:11:15',
        ),
        ('Iter(train) [ 70/400]  lr: 1e-3  eta: 1:00:14  loss: 0.65', None, '70/400', '1:00:14'),
    ],
)
def test_progress_reads_the_log(line, epoch, step, eta, run):
    found = run.STEP.search(line)
    assert (found['epoch'], found['step'], found['eta']) == (epoch, step, eta)
    assert run.LOSS.search(line)


def test_table(run):
    result = {
        'metrics': {'box AP50': 0.3384, 'mask AP50': 0.3571},
        'baselines': {'best grid of boxes': {'box AP50': 0.0066, 'mask AP50': 0.0052}},
        'minutes': 4.26,
        'checkpoint': 'detection/best.pth',
        'picture': 'detection.png',
    }
    assert run.make_table({'detection': result}).splitlines()[2] == (
        '| detection | 48 of 250×250 | box AP50 **0.338**<br>mask AP50 **0.357** '
        '| 0.007 (best grid of boxes)<br>0.005 (best grid of boxes) | 4.3 '
        '| `detection/best.pth` | [detection.png](detection.png) |'
    )


def test_best_checkpoint(run, tmp_path):
    assert run.best_checkpoint(tmp_path) is None
    last = tmp_path / 'epoch_3.pth'
    (tmp_path / 'last_checkpoint').write_text(str(last))
    assert run.best_checkpoint(tmp_path) == last  # killed before the first validation
    (tmp_path / 'best_coco_AP_epoch_2.pth').touch()
    assert run.best_checkpoint(tmp_path).name == 'best_coco_AP_epoch_2.pth'
