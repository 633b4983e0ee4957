"""Samples that cannot be loaded."""

import copy
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from killed import different
from mmengine.dataset import BaseDataset
from tasks import Task
from torch.utils.data import Dataset

from scopevit.checkpoint import read_checkpoint
from scopevit.engine.batches import Draw
from scopevit.engine.samples import SHOWN, SeededItems, left_out_in_training
from scopevit.errors import InputError

Tool = Callable[..., tuple[int, str]]


@pytest.fixture
def spoiled(make_task: Callable[[str], Task]) -> tuple[Task, list[Path]]:
    """A task, and two of its images that are damaged."""
    task = make_task('classification')
    task.edit("type='CheckpointHook', interval=1)", "type='CheckpointHook', interval=2)")
    names = [line.split()[0] for line in (task.data / 'labels.txt').read_text().splitlines()]
    paths = [task.data / 'images' / names[i] for i in (2, 5)]
    (paths[0].parent / 'good.png').write_bytes(paths[0].read_bytes())
    for path in paths:
        path.write_bytes(path.read_bytes()[:200])
    return task, paths


def options(task: Task, name: str, workers: int = 0) -> list[object]:
    return [
        task.config, '--work-dir', task.work_dir / name, '--no-validate', '--cfg-options',
        f'train_dataloader.num_workers={workers}', 'train_cfg.max_epochs=2',
    ]  # fmt: skip


def test_they_are_left_out_wherever_they_load(spoiled: tuple[Task, list[Path]], tool: Tool) -> None:
    task, paths = spoiled
    checkpoints = []
    for workers in (0, 2):
        name = str(workers)
        code, err = tool('train', *options(task, name, workers), '--skip-bad-samples', 2)
        assert code == 0, err
        told = json.loads((task.work_dir / name / 'skipped_samples.json').read_text())
        assert told == [
            dict(index=i, file=str(path)) for i, path in zip((2, 5), paths, strict=True)
        ]
        checkpoints.append(read_checkpoint(task.work_dir / name / 'epoch_2.pth'))
    assert different(checkpoints[0]['state_dict'], checkpoints[1]['state_dict']) == []


def test_no_more_than_allowed(spoiled: tuple[Task, list[Path]], fails: Callable[..., str]) -> None:
    task, paths = spoiled
    line = fails('train', *options(task, 'a', 1), '--skip-bad-samples', 1)
    assert 'more samples cannot be loaded than --skip-bad-samples 1: sample ' in line
    assert any(f'({path}): cannot load {path}' in line for path in paths)
    assert 'error: cannot load ' in fails('train', *options(task, 'b'))


def test_no_sample_can_be_loaded() -> None:
    class Bad(Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> None:
            raise ValueError('bad')

    items = SeededItems(Bad(), allowed=9)
    with pytest.raises(InputError, match='none of 3 samples can be loaded'):
        items.get(Draw(1, (0, 0, 0)))
    assert items.left_out == [1, 2, 0]


def test_what_was_left_out_before() -> None:
    items = SeededItems(Dataset(), allowed=3)
    items.remember([7, 5])
    items.remember([5, 2, 9])  # one is too many, with fewer that may be than before
    assert items.left_out == [7, 5, 2]
    SeededItems(Dataset()).remember([1])


def test_a_training_that_goes_on_knows_them(spoiled: tuple[Task, list[Path]], tool: Tool) -> None:
    task, paths = spoiled
    command = ['train', *options(task, 'a', 1), '--skip-bad-samples', '2']
    code, err = tool(*command)
    assert code == 0, err
    for path in paths:  # what is mended since was left out all the same
        path.write_bytes((paths[0].parent / 'good.png').read_bytes())
    path = task.work_dir / 'a' / 'skipped_samples.json'
    told = path.read_text()
    path.unlink()
    code, err = tool(*[part if part != 'train_cfg.max_epochs=2' else 'train_cfg.max_epochs=3'
                       for part in command], '--resume')  # fmt: skip
    assert code == 0, err
    assert path.read_text() == told


def test_other_processes_know_them(spoiled: tuple[Task, list[Path]], tool: Tool) -> None:
    task, paths = spoiled
    command = ['train', '--skip-bad-samples', 2, *options(task, 'a')]
    assert tool(*command)[0] == 0
    checkpoint = read_checkpoint(task.work_dir / 'a' / 'epoch_2.pth')
    # As of three processes, two of which met one each.
    [state] = checkpoint['processes']
    checkpoint['processes'] = [
        state | {'left_out': [5]}, {'random': state['random']}, state | {'left_out': [2, 5]}
    ]  # fmt: skip
    torch.save(checkpoint, task.config.with_name('three.pth'))
    for path in paths:
        path.write_bytes((paths[0].parent / 'good.png').read_bytes())
    command[1:1] = ['--resume', task.config.with_name('three.pth')]
    code, err = tool(*command, 'train_cfg.max_epochs=3')
    assert code == 0, err
    told = json.loads((task.work_dir / 'a' / 'skipped_samples.json').read_text())
    assert [sample['index'] for sample in told] == [2, 5]
    last = read_checkpoint(task.work_dir / 'a' / 'epoch_3.pth')
    assert last['processes'][0]['left_out'] == [2, 5]


def test_metrics_tell_them(spoiled: tuple[Task, list[Path]], tool: Tool) -> None:
    task, paths = spoiled
    folder = task.work_dir / 'a'
    code, err = tool('train', *options(task, 'a'), '--skip-bad-samples', 2)
    assert code == 0, err
    for path in paths:
        path.write_bytes((paths[0].parent / 'good.png').read_bytes())
    test = ['test', task.config, folder / 'epoch_2.pth', '--work-dir', folder]
    code, err = tool(*test)
    assert code == 0, err
    report = json.loads((folder / 'metrics.json').read_text())
    samples = [dict(index=i, file=str(path)) for i, path in zip((2, 5), paths, strict=True)]
    assert report['left_out_in_training'] == dict(count=2, samples=samples)


def test_only_the_first_of_many_are_told() -> None:
    samples = [dict(index=i, file=None) for i in range(SHOWN + 3)]
    told = left_out_in_training({'meta': {'left_out': samples}}, 'a.pth')
    assert told == {'left_out_in_training': dict(count=SHOWN + 3, samples=samples[:SHOWN])}
    assert left_out_in_training({'meta': {}}, 'a.pth') == left_out_in_training({}, 'a.pth') == {}


@pytest.mark.parametrize(
    'odd', [3, 'abc', [3], [{}], [dict(index='1', file='a')], [dict(index=1, file={1: 2})]]
)
def test_odd_lists_of_them_are_refused(odd: object) -> None:
    with pytest.raises(InputError, match=r'^a\.pth: meta\.left_out must list samples by index'):
        left_out_in_training({'meta': {'left_out': odd}}, 'a.pth')


def test_a_data_set_can_be_copied() -> None:
    dataset = BaseDataset(lazy_init=True)
    dataset.__getitems__ = SeededItems(dataset, allowed=2)
    copied = copy.deepcopy(dataset)
    assert copied.__getitems__.dataset is copied
    assert copied.__getitems__.allowed == 2


# Its worker has more to hand over than a pipe holds.
KILLED_WHILE_LOADING = """
import os, signal
import numpy as np
from torch.utils.data import DataLoader
from scopevit.engine.samples import make_repeatable

loader = DataLoader([np.zeros(2**20)] * 8, num_workers=1, collate_fn=list)
make_repeatable(loader, 0)
batches = iter(loader)
next(batches)
print(batches._workers[0].pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_loads_ends_with_who_trains() -> None:
    command = [sys.executable, '-c', KILLED_WHILE_LOADING]
    # The worker has the other end of this pipe, too: its end is the end of all.
    ended = subprocess.run(command, stdout=subprocess.PIPE, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    worker = Path('/proc', ended.stdout.decode().strip(), 'stat')
    assert not worker.exists() or worker.read_text().rpartition(') ')[2].startswith('Z')


def test_a_pipeline_that_drops_all(make_task: Callable[[str], Task], fails: Callable) -> None:
    task = make_task('detection')
    # No object is as large.
    huge = "dict(type='FilterAnnotations', min_gt_bbox_wh=(9999, 9999))"
    task.config.write_text(
        f'{task.config.read_text()}\n'
        f"train_dataloader['dataset']['pipeline'].insert(-1, {huge})\n"
        "train_dataloader['dataset']['max_refetch'] = 3\n"
    )
    line = fails('train', task.config, '--work-dir', task.work_dir, '--no-validate')
    assert 'detection.py: the pipeline of a data set drops all samples' in line
