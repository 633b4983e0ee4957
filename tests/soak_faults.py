"""What happens to trainings on bad days, for `tests/soak.py`."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

PAUSE = 2.0  # seconds of a training that is halted, or has no network


class Training(Protocol):
    """As in `tests/soak.py`."""

    work_dir: Path
    seconds: float

    @property
    def images(self) -> list[Path]: ...


Fault = Callable[[Training, int, random.Random], None]


def members(session: int) -> list[int]:
    """Returns the processes of a session, the one that leads it first."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, *numbers = path.read_text().rpartition(') ')[2].split()
        except OSError:  # it has just ended
            continue
        if int(numbers[2]) == session and state != 'Z':
            found.append(int(path.parent.name))
    return sorted(found)


def kill_one(training: Training, pid: int, chance: random.Random) -> None:
    """Kills a process that trains, or the one that started it, or one that loads data."""
    os.kill(chance.choice(members(pid)), signal.SIGKILL)


def kill_first(training: Training, pid: int, chance: random.Random) -> None:
    """Kills the process that leads the session: of several, the launcher."""
    os.kill(pid, signal.SIGKILL)


def kill_loader(training: Training, pid: int, chance: random.Random) -> None:
    """Kills the youngest process, which loads data unless none has begun to."""
    os.kill(members(pid)[-1], signal.SIGKILL)


def tell_to_stop(training: Training, pid: int, chance: random.Random) -> None:
    """Tells all processes to stop."""
    number = chance.choice([signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
    for each in members(pid):
        os.kill(each, number)


def halt(training: Training, pid: int, chance: random.Random) -> None:
    """Halts all processes for a while."""
    os.killpg(pid, signal.SIGSTOP)
    time.sleep(PAUSE)
    os.killpg(pid, signal.SIGCONT)


def drop_link(training: Training, pid: int, chance: random.Random) -> None:
    """Takes the network of all processes away for a while."""
    for state in ('down', 'up'):
        command = ['nsenter', '-t', str(pid), '-n', 'ip', 'link', 'set', 'lo', state]
        subprocess.run(command, check=True)
        time.sleep(PAUSE * (state == 'down'))


def damage(training: Training, spoil: Callable[[bytearray], bytes | bytearray]) -> None:
    """Changes the newest checkpoint, if there is one."""
    files = sorted(training.work_dir.glob('*.pth'), key=lambda path: path.stat().st_mtime)
    if files:
        files[-1].write_bytes(spoil(bytearray(files[-1].read_bytes())))


def kill_all(pid: int) -> None:
    """Kills all processes of a session, and waits until they have ended."""
    os.killpg(pid, signal.SIGKILL)
    while members(pid):
        time.sleep(0.05)


def cut(training: Training, pid: int, chance: random.Random) -> None:
    """Kills all, and cuts the newest checkpoint."""
    kill_all(pid)
    damage(training, lambda content: content[: chance.randrange(len(content))])


def flip(training: Training, pid: int, chance: random.Random) -> None:
    """Kills all, and flips a bit in the newest checkpoint."""

    def spoil(content: bytearray) -> bytearray:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return content

    kill_all(pid)
    damage(training, spoil)


# What happens at some time of a training.
FAULTS: dict[str, Fault] = {
    'SIGKILL to any process': kill_one,
    'SIGKILL to the first process': kill_first,
    'SIGKILL to a process that loads data': kill_loader,
    'told to stop': tell_to_stop,
    'halted': halt,
    'killed, and the checkpoint cut': cut,
    'killed, and a bit of the checkpoint flipped': flip,
}
LINK = 'the network is gone for a while'


@contextmanager
def no_room(training: Training, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Lets no file grow beyond some size: an error of the system, as by a quota."""
    most = chance.randrange(10_000, 400_000)
    yield {'prepare': partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))}


@contextmanager
def full_disk(training: Training, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Gives the training a disk of its own, with room for some checkpoints."""
    training.work_dir.mkdir()
    size = f'size={chance.randrange(50, 300)}k'
    subprocess.run(['mount', '-t', 'tmpfs', '-o', size, 'none', training.work_dir], check=True)
    try:
        yield {}
    finally:
        # What was written stays, on the disk below.
        kept = training.work_dir.with_name(f'{training.work_dir.name}_kept')
        shutil.copytree(training.work_dir, kept)
        subprocess.run(['umount', training.work_dir], check=True)
        training.work_dir.rmdir()
        kept.rename(training.work_dir)


@contextmanager
def broken_sample(training: Training, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Cuts an image."""
    path = chance.choice(training.images)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    try:
        yield {}
    finally:
        path.write_bytes(content)


# What is so from the start, until the training has ended for the first time.
STATES = {
    'no room for a checkpoint': no_room,
    'the disk full': full_disk,
    'an image cut': broken_sample,
}


def possible() -> list[str]:
    """Returns the faults that this machine allows: disks and networks of one's own take root."""
    names = [*FAULTS, *STATES]
    commands = ('mount', 'umount', 'nsenter', 'unshare', 'ip')
    if os.geteuid() == 0 and all(map(shutil.which, commands)):
        is_own = subprocess.run(['unshare', '-n', 'true'], capture_output=True).returncode == 0
        return [*names, LINK] if is_own else names
    names.remove('the disk full')
    return names


def strike(fault: str, training: Training, pid: int, chance: random.Random) -> None:
    """Lets a fault happen; the training may end in this moment."""
    with suppress(ProcessLookupError, IndexError):
        (drop_link if fault == LINK else FAULTS[fault])(training, pid, chance)
