"""Trainings in two processes of which one dies, or that are told to stop."""

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from killed import RANDOM, different
from launched import launch
from tasks import Task, write_task

from scopevit.checkpoint import read_checkpoint

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
LAST = 'iter_8.pth'
STEPS = """
train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=1)
custom_imports['imports'] = ['scopevit', 'killed']
default_hooks['checkpoint']['interval'] = 3
"""


def train(
    task: Task, name: str, *arguments: str, kill: dict | None = None, **variables: str
) -> subprocess.CompletedProcess:
    """Trains in two processes, with a `KillHook`."""
    config = task.config.with_name(f'{name}.py')
    config.write_text(f'{task.config.read_text()}\ncustom_hooks[1].update({kill or {}})\n')
    work_dir = task.config.with_name(name)
    return launch(
        'dist_train.sh', config, 2, '--work-dir', work_dir, *arguments, cwd=config.parent,
        PYTHONPATH=str(TESTS), OMP_NUM_THREADS='1', **variables,
    )  # fmt: skip


@pytest.fixture(scope='module')
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    task = write_task('classification', tmp_path_factory.mktemp('stopping'))
    task.config.write_text(task.config.read_text() + RANDOM + STEPS)
    return task


@pytest.fixture(scope='module')
def check(task: Task) -> Callable[[str], None]:
    """A function that compares the end of a training with that of one that never stopped."""
    result = train(task, 'whole')
    assert result.returncode == 0, result.stderr[-2000:]
    whole = read_checkpoint(task.config.with_name('whole') / LAST)

    def compare(name: str) -> None:
        folder = task.config.with_name(name)
        assert different(whole, read_checkpoint(folder / LAST)) == []
        assert not list(folder.glob('*.part'))

    return compare


def test_a_process_that_dies_starts_again(task, check):
    kill = dict(at=4, signal=int(signal.SIGKILL), rank=1)
    result = train(task, 'died', kill=kill, MAX_RESTARTS='1')
    assert result.returncode == 0, result.stderr[-2000:]
    check('died')


def test_without_restarts_the_launcher_fails(task):
    kill = dict(at=4, signal=int(signal.SIGKILL), rank=1)
    result = train(task, 'failed', kill=kill)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == 'process 1 ended with exit code -9'
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize(
    ('name', 'kill', 'code'),
    [
        # What came to one process, all agree on.
        ('one', dict(signal=int(signal.SIGUSR1), rank=1), 75),
        ('launcher', dict(signal=int(signal.SIGUSR1), to_parent=True), 75),
        # They do not train on without a launcher.
        ('orphans', dict(signal=int(signal.SIGKILL), to_parent=True), -9),
    ],
)
def test_all_processes_stop_and_go_on(name, kill, code, task, check):
    result = train(task, name, kill=dict(kill, at=4))
    assert result.returncode == code, result.stderr[-2000:]
    # They notice that the launcher is gone at that step or the next, which has a checkpoint.
    steps = '[56]' if name == 'orphans' else '5'
    [step] = re.findall(rf'^stopped by SIG.* after step ({steps}), ', result.stderr, re.MULTILINE)
    assert 'Traceback' not in result.stderr
    folder = task.config.with_name(name)
    saved = {'5': 'stopped.pth', '6': 'iter_6.pth'}[step]
    assert (folder / 'last_checkpoint').read_text() == saved
    again = train(task, name, '--resume')
    assert again.returncode == 0, again.stderr[-2000:]
    check(name)
    assert not (folder / 'stopped.pth').exists()
