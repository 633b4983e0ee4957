"""A training that was killed and goes on ends as one that was not, to the last bit."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from killed import RANDOM, Killed, KillHook, different
from tasks import Task

from scopevit.checkpoint import read_checkpoint


@pytest.fixture
def random_task(make_task: Callable[[str], Task]) -> Task:
    task = make_task('classification')
    text = task.config.read_text()
    task.config.write_text(text + RANDOM)
    return task


@pytest.fixture
def train(random_task: Task, tool: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """A function that trains to the end, and returns the last checkpoint, or until it is killed."""

    def run(work_dir: Path, *arguments: str, **kill: object) -> dict | str:
        for name, value in (dict(at=None, place='after_train_iter', signal=0) | kill).items():
            monkeypatch.setattr(KillHook, name, value)
        command = ('train', random_task.config, '--work-dir', work_dir, *arguments)
        if kill and not KillHook.signal:
            with pytest.raises(Killed):
                tool(*command)
            return ''
        code, err = tool(*command)
        assert code == {0: 0, signal.SIGINT: 130}.get(KillHook.signal, 75), err
        return err if kill else read_checkpoint(work_dir / 'iter_12.pth')

    return run


def with_options(task: Task, options: str) -> None:
    """Adds lines to a config."""
    task.config.write_text(task.config.read_text() + options)


KINDS = {
    'epochs': '',
    'workers': 'train_dataloader.update(num_workers=2, persistent_workers=True)',
    'iterations and workers': (
        'train_cfg = dict(by_epoch=False, max_iters=12, val_interval=4)\n'
        'train_dataloader.update(num_workers=2)'
    ),
    'endless sampler': (
        'train_cfg = dict(by_epoch=False, max_iters=12, val_interval=5)\n'
        "train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)\n"
        "train_dataloader['num_workers'] = 1"
    ),
    'few checkpoints': (
        "default_hooks['checkpoint'].update(interval=3, max_keep_ckpts=4)\n"
        "default_hooks['checkpoint']['type'] = 'mmengine.CheckpointHook'\n"
        "train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=12, val_interval=4)"
    ),
    'statistics of BN anew': (
        "custom_hooks.append(dict(type='PreciseBNHook', num_samples=4, interval=1))"
    ),
    'two averages': (
        "custom_hooks[0] = dict(type='mmpretrain.EMAHook', momentum=0.1, evaluate_on_origin=True)"
    ),
    'accumulation': "optim_wrapper['accumulative_counts'] = 3",
    'half precision': "optim_wrapper['type'] = 'CPUAmpOptimWrapper'",
}


MOST = ('epochs', 'few checkpoints')  # are killed in validations, too


def checkpoints(folder: Path) -> set[str]:
    return {path.name for path in folder.glob('*.pth')}


def of_kinds(*kinds: str) -> pytest.MarkDecorator:
    """Tests the first kind, and the others where it may be slow."""
    others = [pytest.param(kind, marks=pytest.mark.slow) for kind in kinds[1:]]
    return pytest.mark.parametrize('kind', [kinds[0], *others])


@of_kinds(*KINDS)
def test_killed_is_as_never_killed(kind, random_task, train, tmp_path):
    with_options(random_task, KINDS[kind])
    whole = train(tmp_path / 'whole')
    # In an epoch, and in a validation.
    for at, place in ((6, 'after_train_iter'), (8, 'after_val_iter'))[: 2 if kind in MOST else 1]:
        work_dir = tmp_path / f'{at} {place}'
        train(work_dir, at=at, place=place)
        assert different(whole, train(work_dir, '--resume')) == []
        assert checkpoints(work_dir) == checkpoints(tmp_path / 'whole')


# At the end of an epoch, and between two checkpoints; in a validation, before a checkpoint of the
# step; after it, where one of the averages may validate anew.
STOPS = [
    (signal.SIGUSR1, 7, 'after_train_iter', 'after step 8, saved '),
    (signal.SIGINT, 8, 'after_val_iter', 'in the validation after step '),
    (signal.SIGTERM, 1, 'after_train_iter', 'after step 2, saved '),
    (signal.SIGTERM, 8, 'after_val_epoch', 'after step '),
]


@of_kinds('epochs', 'accumulation', 'endless sampler', 'two averages')
def test_stopped_is_as_never_stopped(kind, random_task, train, tmp_path):
    with_options(random_task, KINDS[kind])
    with_options(random_task, "\ndefault_hooks['checkpoint']['interval'] = 3")
    whole = train(tmp_path / 'whole')
    for number, at, place, said in STOPS if kind == 'epochs' else STOPS[-2:]:
        work_dir = tmp_path / f'{number} {at} {place}'
        err = train(work_dir, at=at, place=place, signal=number)
        assert f'stopped by {number.name} {said}' in err
        [saved] = re.findall(r'(stopped|iter_\d+)\.pth(?: has it)?$', err, re.MULTILINE)
        assert (work_dir / 'last_checkpoint').read_text() == f'{saved}.pth'
        assert (saved == 'stopped') == (', saved ' in err)
        assert different(whole, train(work_dir, '--resume')) == []
        assert checkpoints(work_dir) == checkpoints(tmp_path / 'whole')
