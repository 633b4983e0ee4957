"""The checkpoint that a training goes on from."""

import os
from pathlib import Path

import pytest
import torch

from scopevit.engine.checks.weights import read_last_checkpoint
from scopevit.errors import InputError


def save_state(path: Path, minutes_ago: int = 0) -> Path:
    """Writes what a training needs to go on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {'epoch': 1, 'iter': 2}
    torch.save({'meta': meta, 'state_dict': {'a': torch.ones(1)}, 'message_hub': {}}, path)
    written = path.stat().st_mtime - 60 * minutes_ago
    os.utime(path, (written, written))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A work dir with checkpoints of three epochs, the last of which is named."""
    folder = tmp_path / 'run'
    for epoch in (1, 2, 3):
        # Numbers and times differ: those of an earlier training may be larger.
        save_state(folder / f'epoch_{10 - epoch}.pth', minutes_ago=10 - epoch)
    save_state(folder / 'best_accuracy_epoch_1.pth')  # has no optimizer
    torch.save({'a': torch.ones(1)}, folder / 'resnet50.pth')
    save_state(folder / folder.name / 'epoch_5.pth')  # of another training
    (folder / 'last_checkpoint').write_text('epoch_7.pth')
    return folder


def last(*folders: Path) -> str | None:
    found = read_last_checkpoint(*folders)
    return found and os.path.relpath(found[0], folders[0])


def test_the_named_one(run: Path) -> None:
    save_state(run / 'epoch_1.pth')  # newer, but perhaps not yet all that its training wrote
    assert last(run) == 'epoch_7.pth'


def test_the_newest_whole_one(run: Path) -> None:
    content = (run / 'epoch_7.pth').read_bytes()
    (run / 'epoch_7.pth').write_bytes(content[: len(content) // 2])
    (run / 'epoch_8.pth').unlink()
    found = read_last_checkpoint(run)
    assert found is not None and found.path == run / 'epoch_9.pth'
    damaged = f'not a checkpoint of torch.save, or a damaged one: {run / "epoch_7.pth"}'
    assert found.skipped == [damaged]


def test_none_is_whole(run: Path) -> None:
    for path in run.glob('epoch_*.pth'):
        path.write_bytes(b'damaged')
    with pytest.raises(
        InputError, match=r'epoch_7\.pth; .*epoch_8\.pth; .*to start anew, give another'
    ):
        read_last_checkpoint(run)


def test_a_new_work_dir(tmp_path: Path) -> None:
    assert read_last_checkpoint(tmp_path / 'none') is None
    save_state(tmp_path / 'best_accuracy_epoch_1.pth')
    torch.save({'a': torch.ones(1)}, tmp_path / 'resnet50.pth')
    assert read_last_checkpoint(tmp_path) is None


@pytest.mark.parametrize(
    'content',
    [
        None,
        b'',
        b'\xff\xfe',
        b'epoch_7\0.pth',
        b'a' * 5000,
        b'a' * 300 + b'.pth',
        b'a' * 300 + b'/epoch_7.pth',
        b'/',
    ],
)
def test_a_pointer_that_names_nothing(content: bytes | None, run: Path) -> None:
    pointer = run / 'last_checkpoint'
    pointer.unlink()
    if content is not None:
        pointer.write_bytes(content)
    assert last(run) == 'epoch_7.pth'  # the newest


@pytest.mark.parametrize('is_absolute', [False, True])
def test_nothing_outside_is_read(is_absolute: bool, run: Path) -> None:
    other = save_state(run.parent / 'other' / 'epoch_7.pth')
    (run / 'last_checkpoint').write_text(str(other) if is_absolute else '../other/epoch_7.pth')
    assert last(run) == 'epoch_7.pth'
    (run / 'epoch_7.pth').unlink()
    assert last(run) == 'epoch_8.pth'
    # Unless the config says that checkpoints go there.
    assert last(run, run.parent / 'other') == os.path.join('..', 'other', 'epoch_7.pth')


def test_below_the_work_dir(run: Path) -> None:
    save_state(run / 'below' / 'epoch_7.pth')
    (run / 'last_checkpoint').write_text('below/epoch_7.pth')
    assert last(run) == os.path.join('below', 'epoch_7.pth')


@pytest.mark.parametrize('pointer', ['', 'epoch_3.pth'])
def test_a_folder_of_their_own(pointer: str, tmp_path: Path) -> None:
    run, out = tmp_path / 'run', tmp_path / 'out'
    save_state(out / 'run' / 'epoch_1.pth', minutes_ago=2)
    save_state(out / 'run' / 'epoch_2.pth', minutes_ago=1)
    save_state(out / 'another' / 'epoch_9.pth')
    run.mkdir()
    (run / 'last_checkpoint').write_text(pointer and str(out / 'run' / pointer))
    assert last(run, out) == os.path.join('..', 'out', 'run', 'epoch_2.pth')
