"""Checkpoints that are written beside the training."""

import errno
import os
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from killed import RANDOM, KillHook, different
from mmpretrain.evaluation import Accuracy
from tasks import Task

from scopevit.checkpoint import read_checkpoint
from scopevit.engine import writer
from scopevit.engine.writer import Writer
from scopevit.errors import InputError


@pytest.fixture
def task(make_task: Callable[[str], Task]) -> Task:
    task = make_task('classification')
    task.config.write_text(task.config.read_text() + RANDOM)
    return task


def test_things_are_done_in_turn() -> None:
    done, may_go = [], threading.Event()
    each = Writer(background=True)
    each.do(may_go.wait)
    each.do(done.append, 1)
    each.do(done.append, 2)
    each.check()
    assert done == []  # and nobody waits
    may_go.set()
    each.wait()
    assert done == [1, 2]
    each.finish()
    Writer().do(done.append, 3)
    assert done[-1] == 3


def test_nothing_is_removed_after_a_failure(tmp_path: Path) -> None:
    each = Writer(background=True)
    old = tmp_path / 'old.pth'
    old.write_bytes(b'old')
    with each.writing(old / 'new.pth') as part:
        part.write_bytes(b'new')
    each.do(old.unlink)
    with pytest.raises(InputError, match='^cannot write .*new.pth: File exists$'):
        each.wait()
    each.wait()
    each.finish()
    assert [path.name for path in tmp_path.iterdir()] == ['old.pth']


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path, may_go = tmp_path / 'a' / 'b.pth', threading.Event()
    each = Writer(background=True)
    each.do(may_go.wait)
    with each.writing(path) as part:
        part.write_bytes(b'12' * 100_000)
    with pytest.raises(KeyError), each.writing(path):  # as of a checkpoint that cannot be pickled
        raise KeyError
    assert not path.exists()
    may_go.set()
    each.wait()
    each.finish()
    assert path.read_bytes() == b'12' * 100_000
    assert list(path.parent.iterdir()) == [path]


def test_a_training_goes_on_meanwhile(
    task: Task, tool: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    taken = threading.Event()  # another step than that
    written: list[int] = []
    copy = writer.copy_whole

    def copy_late(descriptor: int, path: Path) -> None:
        if path.name == 'iter_3.pth':
            assert taken.wait(60)
        written.append(len(steps))
        copy(descriptor, path)

    def count_step(self: KillHook, runner: object, *args: object, **kwargs: object) -> None:
        steps.append(1)
        if len(steps) == 4:
            taken.set()

    arguments = ['train', task.config, '--cfg-options', 'default_hooks.checkpoint.interval=3']
    assert tool(*arguments, '--work-dir', task.work_dir / 'at once')[0] == 0
    monkeypatch.setattr(writer, 'copy_whole', copy_late)
    monkeypatch.setattr(KillHook, 'after_train_iter', count_step)
    code, err = tool(*arguments, '--work-dir', task.work_dir, '--save-in-background')
    assert code == 0, err
    assert written[0] == 4
    folders = task.work_dir, task.work_dir / 'at once'
    names = [{path.name for path in folder.glob('*.pth')} for folder in folders]
    assert names[0] == names[1]
    assert {'iter_3.pth', 'iter_6.pth', 'iter_9.pth', 'iter_12.pth'} < names[0]
    for name in names[0]:
        found = different(*(read_checkpoint(folder / name) for folder in folders))
        assert [each for each in found if '/eta:' not in each] == []
    assert (task.work_dir / 'last_checkpoint').read_text() == 'iter_12.pth'


@pytest.mark.parametrize('options', [(), ('--save-in-background',)])
def test_the_last_checkpoint_is_never_named_in_place(
    options: tuple[str, ...],
    task: Task,
    tool: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pointer, early = task.work_dir / 'last_checkpoint', task.work_dir / 'early'
    seen: list[str] = []
    copy = writer.copy_whole

    def look(self: KillHook, runner: object, *args: object, **kwargs: object) -> None:
        if pointer.exists() and not seen:
            os.link(pointer, early)  # is the same file, as long as it is not replaced
            seen.append(early.read_text())

    def look_and_copy(descriptor: int, path: Path) -> None:
        assert not pointer.exists() or (task.work_dir / pointer.read_text()).exists()
        copy(descriptor, path)

    monkeypatch.setattr(KillHook, 'after_train_iter', look)
    monkeypatch.setattr(writer, 'copy_whole', look_and_copy)
    code, err = tool('train', task.config, '--work-dir', task.work_dir, *options)
    assert code == 0, err
    assert [early.read_text()] == seen
    assert pointer.read_text() == 'iter_12.pth'


def test_a_full_disk_ends_the_training(
    task: Task, tool: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if target.name == 'iter_5.pth':
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', full)
    code, err = tool('train', task.config, '--work-dir', task.work_dir, '--save-in-background',
                     '--cfg-options', 'default_hooks.checkpoint.max_keep_ckpts=1',
                     'default_hooks.checkpoint.save_best=None')  # fmt: skip
    path = task.work_dir / 'iter_5.pth'
    assert code == 1
    assert f'error: cannot write {path}: No space left on device\n' in err
    assert [one.name for one in task.work_dir.glob('*.pth*')] == ['iter_4.pth']
    assert (task.work_dir / 'last_checkpoint').read_text() == 'iter_4.pth'
    read_checkpoint(task.work_dir / 'iter_4.pth')


@pytest.mark.parametrize('options', [(), ('--save-in-background',)])
def test_old_checkpoints_go(
    options: tuple[str, ...],
    task: Task,
    tool: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each validation is the best one so far, and has another checkpoint saved, besides those of
    # the steps 5 and 10.
    better = count(1)
    monkeypatch.setattr(Accuracy, 'compute_metrics', lambda *_: {'top1': float(next(better))})
    code, err = tool('train', task.config, '--work-dir', task.work_dir, *options, '--cfg-options',
                     'default_hooks.checkpoint.interval=5',
                     'default_hooks.checkpoint.max_keep_ckpts=1')  # fmt: skip
    assert code == 0, err
    assert (task.work_dir / 'last_checkpoint').read_text() == 'iter_12.pth'
    names = {path.name for path in task.work_dir.glob('*.pth')}
    assert names == {'iter_12.pth', 'best_accuracy_top1_iter_12.pth'}


def test_what_failed_last_is_told() -> None:
    each = Writer(background=True)
    each.do(int, 'x')
    assert isinstance(each.finish(), ValueError)
    assert Writer().finish() is None


def test_a_writer_at_once_tells_at_once(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    where = Writer().writing(tmp_path / 'file' / 'a.pth')
    with pytest.raises(InputError, match='^cannot write .*a.pth: File exists'), where:
        pass
