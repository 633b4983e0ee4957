"""Kills trainings at random, lets them go on, and compares how they end: `make soak`.

python tests/soak.py --minutes 30 [--seed 0] [--faults NAME ...] [--processes 1 2]
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from killed import different
from tasks import MAKE_DATA, Task, write_task

from scopevit.checkpoint import read_checkpoint
from scopevit.engine.checks.weights import read_last_checkpoint
from scopevit.report import markdown_table

ROOT = Path(__file__).parents[1]
INTERVAL = 2  # steps between checkpoints
ATTEMPTS = 8
SECONDS = 240  # until a training hangs
PAUSE = 2.0  # of a training that is halted
STEPS = """
train_dataloader.update(batch_size=1, num_workers=1)
train_cfg = dict(by_epoch=True, max_epochs=EPOCHS)
custom_hooks = [dict(type='mmengine.EMAHook', momentum=0.1)]
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=INTERVAL, by_epoch=False),
    logger=dict(type='LoggerHook', interval=1),
)
"""

Process: TypeAlias = subprocess.Popen[bytes]


@dataclass
class Training:
    """A training that goes on until it is done.

    Attributes:
        task: Its config.
        processes: How many.
        work_dir: Where it writes to.
        seconds: How long it takes when nothing happens.
    """

    task: Task
    processes: int
    work_dir: Path
    seconds: float = 0.0

    def start(self, **options: Any) -> Process:
        """Starts it, or starts it again, in a session of its own."""
        arguments = [self.task.config, '--work-dir', self.work_dir, '--resume']
        tool = ROOT / 'tools'
        command = [sys.executable, tool / 'train.py', *arguments]
        if self.processes > 1:
            command = [tool / 'dist_train.sh', arguments[0], self.processes, *arguments[1:]]
        env = {**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT)}
        env |= {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
        log = (self.work_dir.parent / f'{self.work_dir.name}.log').open('ab')
        with log:
            return subprocess.Popen(
                [str(part) for part in command],
                cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True, **options,
            )  # fmt: skip

    def last(self) -> int:
        """Returns the step of its last checkpoint."""
        last = read_last_checkpoint(self.work_dir) if self.work_dir.is_dir() else None
        return last.content['meta']['iter'] if last else 0

    def logged(self) -> int:
        """Returns the last step that it has told of."""
        steps = [0]
        for log in self.work_dir.glob('*/vis_data/scalars.json'):
            for line in log.read_text().splitlines():
                steps += [int(line.rpartition('"step": ')[2].rstrip('}'))] * ('"loss"' in line)
        return max(steps)


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


def kill_one(training: Training, process: Process, chance: random.Random) -> None:
    """Kills a process that trains, or the one that started it, or one that loads data."""
    os.kill(chance.choice(members(process.pid)), signal.SIGKILL)


def kill_first(training: Training, process: Process, chance: random.Random) -> None:
    """Kills the process that leads the session: of several, the launcher."""
    process.kill()


def kill_loader(training: Training, process: Process, chance: random.Random) -> None:
    """Kills the youngest process, which loads data unless none has begun to."""
    os.kill(members(process.pid)[-1], signal.SIGKILL)


def tell_to_stop(training: Training, process: Process, chance: random.Random) -> None:
    """Tells all processes to stop."""
    number = chance.choice([signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
    for pid in members(process.pid):
        os.kill(pid, number)


def halt(training: Training, process: Process, chance: random.Random) -> None:
    """Halts all processes for a while."""
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(PAUSE)
    os.killpg(process.pid, signal.SIGCONT)


def damage(training: Training, spoil: Callable[[bytearray], bytes | bytearray]) -> None:
    """Changes the newest checkpoint, if there is one."""
    files = sorted(training.work_dir.glob('*.pth'), key=lambda path: path.stat().st_mtime)
    if files:
        files[-1].write_bytes(spoil(bytearray(files[-1].read_bytes())))


def cut(training: Training, process: Process, chance: random.Random) -> None:
    """Kills all, and cuts the newest checkpoint."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    damage(training, lambda content: content[: chance.randrange(len(content))])


def flip(training: Training, process: Process, chance: random.Random) -> None:
    """Kills all, and flips a bit in the newest checkpoint."""

    def spoil(content: bytearray) -> bytearray:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return content

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    damage(training, spoil)


FAULTS: dict[str, Callable[[Training, Process, random.Random], None]] = {
    'SIGKILL to any process': kill_one,
    'SIGKILL to the first process': kill_first,
    'SIGKILL to a process that loads data': kill_loader,
    'told to stop': tell_to_stop,
    'halted': halt,
    'killed, and the checkpoint cut': cut,
    'killed, and a bit of the checkpoint flipped': flip,
}
FULL = 'no room for a checkpoint'


@dataclass
class Count:
    """What came of a fault."""

    injected: int = 0
    survived: int = 0
    equal: int = 0
    repeated: list[int] = field(default_factory=list)


def wait(process: Process, seconds: float) -> int | None:
    """Waits for a process and all that it has started; returns its exit code, None if it runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None and not members(process.pid):
            return process.returncode
        time.sleep(0.05)
    return None


def suffer(training: Training, fault: str, chance: random.Random, count: Count) -> None:
    """Trains with a fault at a random time, and on until the end."""
    options = {}
    if fault == FULL:  # a file of more than this is an error of the system, as on a full disk
        most = chance.randrange(10_000, 400_000)
        options = {'preexec_fn': lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))}
    process = training.start(**options)
    try:
        if fault in FAULTS and wait(process, chance.uniform(0, training.seconds)) is None:
            # It may end in this moment.
            with suppress(ProcessLookupError, IndexError):
                FAULTS[fault](training, process, chance)
        count.injected += 1
        for _ in range(ATTEMPTS):
            if wait(process, SECONDS) == 0:
                count.survived += 1
                return
            if members(process.pid):
                return  # it hangs
            reached, kept = training.logged(), training.last()
            count.repeated.append(max(0, reached - kept))
            process = training.start()
    finally:
        if members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def soak(minutes: float, seed: int, faults: list[str], processes: list[int], folder: Path) -> str:
    """Lets trainings suffer for some minutes; returns a table."""
    chance = random.Random(seed)
    counts = {fault: Count() for fault in faults}
    wholes: dict[tuple[str, int], Training] = {}
    end, number = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end:
        fault, name = faults[number % len(faults)], chance.choice(list(MAKE_DATA))
        kind = name, chance.choice(processes)
        number += 1
        if kind not in wholes:
            wholes[kind] = whole(*kind, folder)
        reference = wholes[kind]
        work_dir = folder / f'{number}_{name}'
        training = Training(reference.task, kind[1], work_dir, reference.seconds)
        count = counts[fault]
        survived = count.survived
        suffer(training, fault, chance, count)
        found = ['it did not end']
        if count.survived > survived:
            paths = [t.work_dir / f'iter_{t.last()}.pth' for t in (reference, training)]
            found = different(*map(read_checkpoint, paths))
            count.equal += not found
        print(f'{number} {fault}, {name} in {kind[1]}: {found[:3] or "equal"}', flush=True)
        if not found:
            shutil.rmtree(work_dir)
    return table(counts)


def whole(name: str, processes: int, folder: Path) -> Training:
    """Trains to the end."""
    place = folder / f'whole_{name}_{processes}'
    place.mkdir()
    task = write_task(name, place)
    steps = STEPS.replace('EPOCHS', '4').replace('INTERVAL', str(INTERVAL))
    task.config.write_text(task.config.read_text() + steps)
    training = Training(task, processes, place / 'work_dir')
    start = time.monotonic()
    if wait(training.start(), SECONDS) != 0:
        raise SystemExit(f'{name} does not train: {training.work_dir}.log')
    training.seconds = time.monotonic() - start
    return training


def table(counts: dict[str, Count]) -> str:
    """Returns what came of faults."""
    head = ['fault', 'injected', 'survived', 'equal at the end', 'steps repeated, at most']
    rows = [
        [name, str(c.injected), str(c.survived), str(c.equal), str(max(c.repeated, default=0))]
        for name, c in counts.items()
    ]
    return markdown_table(head, rows, 'lrrrr')


def main() -> None:
    """Runs the soak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=30)
    parser.add_argument('--seed', type=int, default=0)
    names = [*FAULTS, FULL]
    parser.add_argument('--faults', nargs='+', choices=names, default=names)
    parser.add_argument('--processes', nargs='+', type=int, default=[1, 2])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(soak(args.minutes, args.seed, args.faults, args.processes, Path(folder)))


if __name__ == '__main__':
    main()
