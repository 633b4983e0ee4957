"""tools/dist_*.sh in two processes on the CPU, tools/slurm_*.sh with a stand-in for srun."""

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from launched import TOOLS, launch
from marks import rest_is_slow
from mmengine.device import get_device
from mmengine.model.utils import _BatchNormXd
from torch.nn.modules.batchnorm import _BatchNorm

from scopevit.checkpoint import read_checkpoint
from scopevit.engine import run as engine_run
from scopevit.engine.config import load_config
from scopevit.engine.explain import OTHER_ENDED
from scopevit.engine.libraries import find_library


def drop_line(path: Path) -> None:
    path.write_text(''.join(path.read_text().splitlines(keepends=True)[:-1]))


def drop_image(path: Path) -> None:
    content = json.loads(path.read_text())
    dropped = content['images'].pop()['id']
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] != dropped]
    path.write_text(json.dumps(content))


def drop_annotation(path: Path) -> None:
    content = json.loads(path.read_text())
    content['annotations'].pop()
    path.write_text(json.dumps(content))


def drop_file(folder: Path) -> None:
    max(folder.iterdir()).unlink()


# What leaves each data set with an odd number of samples, and how many.
DROP = {
    'classification': (drop_line, 'labels.txt', 7),
    'detection': (drop_image, 'instances.json', 3),
    'segmentation': (drop_file, 'images', 3),
    'pose': (drop_annotation, 'people.json', 3),
}


@pytest.fixture
def make_odd_task(make_task: Callable) -> Callable:
    """A function that writes a task with an odd number of samples."""

    def make(name: str):
        task = make_task(name)
        drop, target, _ = DROP[name]
        drop(task.data / target)
        return task

    return make


def read_metrics(work_dir: Path) -> dict:
    return json.loads((work_dir / 'metrics.json').read_text())['metrics']


def read_validation(work_dir: Path) -> dict:
    """The metrics of the last validation in the log."""
    (log,) = work_dir.glob('2*/vis_data/scalars.json')
    return json.loads(log.read_text().splitlines()[-1])


def numbers(value: object) -> list[np.ndarray]:
    """All numbers in the predictions for an image, in order, but for the places of keypoints.

    Those are where heatmaps are highest: of an untrained model, rounding can move them anywhere.
    """
    if hasattr(value, 'keys'):  # a dict, or mmengine's InstanceData
        keys = sorted(key for key in value.keys() if key != 'keypoints')  # noqa: SIM118
        return [n for key in keys for n in numbers(value.get(key))]
    if isinstance(value, (list, tuple)):
        return [n for item in value for n in numbers(item)]
    return [] if value is None or isinstance(value, (str, bytes)) else [np.asarray(value)]


@pytest.mark.parametrize('name', rest_is_slow(DROP))
def test_trains_in_two_processes(name, make_odd_task, tool, tmp_path):
    task = make_odd_task(name)
    # Paths are relative to where the command is given.
    result = launch(
        'dist_train.sh', task.config.name, 2, '--work-dir', 'two', '--auto-scale-lr',
        '--cfg-options', 'train_dataloader.batch_size=2', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    checkpoint = read_checkpoint(tmp_path / 'two' / 'epoch_1.pth')
    # 7 samples are 4 for each process in batches of 2, and 3 are 2.
    assert checkpoint['meta']['iter'] == DROP[name][2] // 2 - DROP[name][2] // 4
    # lr 0.01 is for base_batch_size 16, here it is 2 x 2
    assert checkpoint['optimizer']['param_groups'][0]['lr'] == pytest.approx(0.0025)

    # What two processes measured, on samples that one of them had one more of, is true of the
    # weights that one of them wrote.
    code, err = tool('test', task.config, tmp_path / 'two/epoch_1.pth', '--work-dir', task.work_dir)
    assert code == 0, err
    metrics = read_metrics(task.work_dir)
    validation = read_validation(tmp_path / 'two')
    assert metrics
    assert {key: validation[key] for key in metrics} == metrics


def test_this_process_sees_no_gpu_either():
    if not os.environ.get('SCOPEVIT_TEST_CUDA'):
        assert os.environ['CUDA_VISIBLE_DEVICES'] == ''
        assert get_device() == 'cpu'


# The metrics of a new model are 0 here, so its predictions are compared.
@pytest.mark.parametrize('name', rest_is_slow(['pose', 'detection']))
def test_two_processes_predict_what_one_does(name, make_odd_task, tool, save_weights, tmp_path):
    task = make_odd_task(name)
    checkpoint = save_weights(task)
    one, two = tmp_path / 'one', tmp_path / 'two'
    code, err = tool('test', task.config, checkpoint, '--work-dir', one, '--out', one / 'out.pkl')
    assert code == 0, err
    result = launch(
        'dist_test.sh', task.config.name, checkpoint.name, 2, '--work-dir', 'two', '--out',
        'two/out.pkl', cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert read_metrics(two) == read_metrics(one)
    predictions = [pickle.loads((folder / 'out.pkl').read_bytes()) for folder in (one, two)]
    assert len(predictions[0]) == len(predictions[1]) == DROP[name][2]
    expected, given = map(numbers, predictions)
    assert sum(value.size for value in expected) > 100
    for a, b in zip(expected, given, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def test_sync_bn_is_bn_in_one_process(make_task):
    task = make_task('segmentation')
    cfg = load_config(task.config, work_dir=str(task.work_dir))
    assert cfg.model.decode_head.norm_cfg.type == 'SyncBN'
    find_library(cfg.default_scope)
    model = engine_run.build_runner(cfg, 'none').model
    norms = {type(m) for m in model.decode_head.modules() if isinstance(m, _BatchNorm)}
    assert norms == {_BatchNormXd}


def test_bad_input_of_one_process_ends_all(make_odd_task, tmp_path):
    task = make_odd_task('classification')
    task.edit('train_sampler = dict(type=\'DefaultSampler\', shuffle=True)',
              'train_sampler = dict(type=\'DefaultSampler\', shuffle=False)')  # fmt: skip
    # The second sample, so that of the second process.
    spoilt = task.data / 'images' / (task.data / 'labels.txt').read_text().split()[2]
    spoilt.write_bytes(b'no image')
    result = launch('dist_train.sh', task.config, 2, '--work-dir', task.work_dir, cwd=tmp_path)
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith('error: ')]
    [line] = [line for line in lines if OTHER_ENDED not in line]
    assert line.startswith(f'error: cannot load {spoilt}: ')
    assert not list(task.work_dir.glob('*.pth'))


@pytest.mark.parametrize(
    ('script', 'arguments', 'message'),
    [
        ('dist_train.sh', ['config.py'], 'CONFIG and GPUS are needed'),
        ('dist_train.sh', ['config.py', 'two'], "GPUS must be a positive integer, not 'two'"),
        ('dist_train.sh', ['config.py', '0'], "GPUS must be a positive integer, not '0'"),
        ('dist_train.sh', ['config.py', '--resume'], "GPUS must be a positive integer, not '--res"),
        ('dist_test.sh', ['config.py', '2'], 'CONFIG, CHECKPOINT and GPUS are needed'),
        ('dist_test.sh', ['config.py', '2', 'a.pth'], "GPUS must be a positive integer, not 'a.pt"),
        ('slurm_train.sh', ['part', 'name'], 'PARTITION, JOB_NAME and CONFIG are needed'),
        ('slurm_test.sh', ['part', 'name', 'config.py'], 'CONFIG and CHECKPOINT are needed'),
    ],
)
def test_wrong_arguments(script, arguments, message, tmp_path):
    result = launch(script, *arguments, cwd=tmp_path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith('error: ')
    assert message in line
    assert f'usage: {TOOLS / script} ' in line


def test_a_stopped_training_is_queued_again(recorder):
    (recorder / 'srun').write_text('#!/bin/sh\nexit $CODE\n')
    (recorder / 'scontrol').write_text('#!/bin/sh\necho scontrol "$@"\n')
    (recorder / 'squeue').write_text('#!/bin/sh\necho $STATE\n')
    for name in ('scontrol', 'squeue'):
        (recorder / name).chmod(0o755)
    variables = {'PATH': f'{recorder}{os.pathsep}{os.environ["PATH"]}', 'SLURM_JOB_ID': '7'}
    again = 'scontrol requeue 7\n'
    for code, state, said in (
        ('75', 'RUNNING', again),
        ('75', 'COMPLETING', ''),
        ('1', 'RUNNING', ''),
        ('0', 'RUNNING', ''),
    ):
        result = launch(
            'slurm_train.sh',
            'gpu',
            'job',
            'a.py',
            cwd=recorder,
            CODE=code,
            STATE=state,
            **variables,
        )
        assert (str(result.returncode), result.stdout) == (code, said)


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A folder with a program, as `srun` and `python`, that prints its arguments as JSON."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in ('srun', 'python'):
        program = folder / name
        program.write_text(
            f'#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n'
        )
        program.chmod(0o755)
    return folder


def recorded(recorder: Path, script: str, *arguments: str, **variables: str) -> list[str]:
    variables['PATH'] = f'{recorder}{os.pathsep}{os.environ["PATH"]}'
    result = launch(script, *arguments, cwd=recorder, **variables)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_several_machines(recorder):
    arguments = recorded(
        recorder, 'dist_train.sh', 'my config.py', '8', '--resume', '--cfg-options', 'a="b c"',
        PYTHON=str(recorder / 'python'), NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1',
    )  # fmt: skip
    assert arguments == [
        str(TOOLS / 'launch.py'), '--nnodes=2', '--node-rank=1', '--master-addr=10.0.0.1',
        '--master-port=29500', '--nproc-per-node=8', '--max-restarts=0', str(TOOLS / 'train.py'),
        '--launcher', 'pytorch', 'my config.py', '--resume', '--cfg-options', 'a="b c"',
    ]  # fmt: skip


def test_a_port_of_ones_own(recorder):
    python = str(recorder / 'python')
    arguments = recorded(recorder, 'dist_test.sh', 'a.py', 'b.pth', '2', PYTHON=python, PORT='7')
    assert arguments == [
        str(TOOLS / 'launch.py'), '--nnodes=1', '--node-rank=0', '--master-addr=127.0.0.1',
        '--master-port=7', '--nproc-per-node=2', '--max-restarts=0', str(TOOLS / 'test.py'),
        '--launcher', 'pytorch', 'a.py', 'b.pth',
    ]  # fmt: skip


def test_started_again_on_several_machines(recorder):
    arguments = recorded(
        recorder, 'dist_train.sh', 'a.py', '8', PYTHON=str(recorder / 'python'), NNODES='2',
        NODE_RANK='1', MASTER_ADDR='10.0.0.1', MAX_RESTARTS='3',
    )  # fmt: skip
    assert arguments[1:7] == [
        '--nnodes=2', '--rdzv-backend=c10d', '--rdzv-endpoint=10.0.0.1:29500', '--rdzv-id=29500',
        '--nproc-per-node=8', '--max-restarts=3',
    ]  # fmt: skip


def test_slurm_train(recorder):
    arguments = recorded(recorder, 'slurm_train.sh', 'gpu', 'my job', 'a.py', '--amp', PYTHON='py')
    assert arguments == [
        '--partition=gpu', '--job-name=my job', '--gres=gpu:8', '--ntasks=8',
        '--ntasks-per-node=8', '--cpus-per-task=5', '--kill-on-bad-exit=1',
        'py', '-u', str(TOOLS / 'train.py'), '--launcher', 'slurm', 'a.py', '--amp',
    ]  # fmt: skip


def test_slurm_test(recorder):
    arguments = recorded(
        recorder, 'slurm_test.sh', 'gpu', 'job', 'a.py', 'b.pth', '--out', 'c.pkl', PYTHON='py',
        GPUS='4', CPUS_PER_TASK='2', SRUN_ARGS='--quotatype=auto --exclude=n1',
    )  # fmt: skip
    assert arguments == [
        '--partition=gpu', '--job-name=job', '--gres=gpu:4', '--ntasks=4', '--ntasks-per-node=4',
        '--cpus-per-task=2', '--kill-on-bad-exit=1', '--quotatype=auto', '--exclude=n1',
        'py', '-u', str(TOOLS / 'test.py'), '--launcher', 'slurm', 'a.py', 'b.pth', '--out',
        'c.pkl',
    ]  # fmt: skip
