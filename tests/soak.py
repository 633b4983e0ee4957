"""Breaks trainings at random, lets them go on, and compares how they end: `make soak`.

python tests/soak.py [--minutes 30] [--count N] [--seed 0] [--faults NAME ...] [--processes 1 2]
"""

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkProcess
from pathlib import Path

import torch
from killed import different
from soak_faults import LINK, STATES, kill_all, members, possible, strike
from tasks import MAKE_DATA, Task, write_task

from scopevit.checkpoint import read_checkpoint
from scopevit.cli import parse_command, run_tool
from scopevit.commands import train
from scopevit.engine.batches import leave
from scopevit.engine.checks.weights import read_last_checkpoint
from scopevit.engine.libraries import LIBRARIES, find_library
from scopevit.report import markdown_table

ROOT = Path(__file__).parents[1]
FORK = multiprocessing.get_context('fork')
INTERVAL = 2  # steps between checkpoints
ATTEMPTS = 8
SECONDS = 240  # until a training hangs
OVER = 'it was over before'
STEPS = """
train_dataloader.update(batch_size=1, num_workers=1)
train_cfg = dict(by_epoch=True, max_epochs=EPOCHS)
custom_hooks = [dict(type='mmengine.EMAHook', momentum=0.1)]
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=INTERVAL, by_epoch=False),
    logger=dict(type='LoggerHook', interval=1),
)
"""


@dataclass
class Training:
    """A training that goes on until it is done.

    Attributes:
        task: Its config.
        processes: How many.
        work_dir: Where it writes to.
        options: Others of its tool.
        has_network: Whether its processes have one of their own.
        seconds: How long it takes when nothing happens.
    """

    task: Task
    processes: int
    work_dir: Path
    options: tuple[str, ...] = ()
    has_network: bool = False
    seconds: float = 0.0

    @property
    def images(self) -> list[Path]:
        """Images that it loads."""
        found = (path for path in self.task.data.rglob('*.*g') if path.suffix in ('.jpg', '.png'))
        return sorted(path for path in found if 'mask' not in str(path))

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.work_dir.with_suffix('.log')

    def start(self, prepare: Callable[[], object] = lambda: None) -> ForkProcess:
        """Starts it, or starts it again, in a session of its own."""
        process = FORK.Process(target=self.run, args=[prepare])
        process.start()
        return process

    def run(self, prepare: Callable[[], object]) -> None:
        """Is the process that leads the session."""
        os.setsid()
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        prepare()
        arguments = [self.task.config, '--work-dir', self.work_dir, '--resume', *self.options]
        words = [str(part) for part in arguments]
        if self.processes == 1 and not self.has_network:  # the libraries are loaded already
            code = run_tool(lambda _: train.run(parse_command(train, words)))
            leave()  # as at the exit of a process that was not forked
            sys.exit(code)
        tool = str(ROOT / 'tools' / 'dist_train.sh')
        command = [tool, words[0], str(self.processes), *words[1:]]
        if self.has_network:
            up = 'ip link set lo up && exec "$0" "$@"'
            command = ['unshare', '-n', 'sh', '-c', up, *command]
        env = {**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT)}
        os.execvpe(command[0], command, env)

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


@dataclass
class Count:
    """What came of a fault."""

    injected: int = 0
    survived: int = 0
    equal: int = 0
    repeated: list[int] = field(default_factory=list)


def wait(process: ForkProcess, seconds: float) -> int | None:
    """Waits for a process and all that it has started; returns its exit code, None if it runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.exitcode is not None and not members(process.pid):
            return process.exitcode
        time.sleep(0.05)
    return None


def suffer(training: Training, fault: str, chance: random.Random, count: Count) -> str:
    """Trains with a fault at a random time, and on until the end; returns what went wrong."""
    state = STATES[fault](training, chance) if fault in STATES else nullcontext({})
    with state as options:
        process = training.start(**options)
        code = None
        if fault not in STATES:
            code = wait(process, chance.uniform(0, training.seconds))
            if code is not None:
                return OVER
            strike(fault, training, process.pid, chance)
        code = wait(process, SECONDS)
    count.injected += 1
    for _ in range(ATTEMPTS):
        if code == 0:
            count.survived += 1
            return ''
        if members(process.pid):
            kill_all(process.pid)
            return 'it hangs'
        count.repeated.append(max(0, training.logged() - training.last()))
        process = training.start()
        code = wait(process, SECONDS)
    return f'it did not end: {training.log.read_text(errors="replace")[-200:]}'


def soak(
    minutes: float, most: int, seed: int, faults: list[str], processes: list[int], folder: Path
) -> dict[str, Count]:
    """Lets trainings suffer for some minutes, or until so many faults were injected."""
    chance = random.Random(seed)
    counts = {fault: Count() for fault in faults}
    wholes: dict[tuple[str, int], Training] = {}
    end, number = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end and sum(c.injected for c in counts.values()) < most:
        fault, name = faults[number % len(faults)], chance.choice(list(MAKE_DATA))
        kind = name, chance.choice(processes)
        number += 1
        if kind not in wholes:
            wholes[kind] = whole(*kind, folder)
        found = try_fault(wholes[kind], fault, chance, counts[fault], folder / f'{number}_{name}')
        print(f'{number} {fault}, {name} in {kind[1]}: {found[:3] or "equal"}', flush=True)
    return counts


def try_fault(
    reference: Training, fault: str, chance: random.Random, count: Count, work_dir: Path
) -> list[str]:
    """Lets a training suffer; returns what its last checkpoint differs in from the reference's."""
    options = chance.choice([(), ('--save-in-background',)])
    training = replace(reference, work_dir=work_dir, options=options, has_network=fault == LINK)
    problem = suffer(training, fault, chance, count)
    if problem:
        return [problem]
    paths = [each.work_dir / f'iter_{each.last()}.pth' for each in (reference, training)]
    found = different(*map(read_checkpoint, paths))
    count.equal += not found
    if not found:
        shutil.rmtree(work_dir)
    return found


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
        raise SystemExit(f'{name} does not train: {training.log.read_text()[-2000:]}')
    return replace(training, seconds=time.monotonic() - start)


def table(counts: dict[str, Count]) -> str:
    """Returns what came of faults."""
    head = ['fault', 'injected', 'survived', 'equal at the end', 'steps repeated, at most']
    rows = [
        [name, str(c.injected), str(c.survived), str(c.equal), str(max(c.repeated, default=0))]
        for name, c in counts.items()
    ]
    return markdown_table(head, rows, 'lrrrr')


def main() -> int:
    """Runs the soak; the exit code is 1 where a training did not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=30)
    parser.add_argument(
        '--count',
        type=int,
        default=sys.maxsize,
        help='no more faults than so many; trainings that were over before are not counted',
    )
    parser.add_argument('--seed', type=int, default=0)
    names = possible()
    parser.add_argument('--faults', nargs='+', choices=names, default=names)
    parser.add_argument('--processes', nargs='+', type=int, default=[1, 2])
    args = parser.parse_args()
    os.environ |= {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    torch.set_num_threads(1)
    for library in LIBRARIES:
        find_library(library)
    with tempfile.TemporaryDirectory() as folder:
        counts = soak(
            args.minutes, args.count, args.seed, args.faults, args.processes, Path(folder)
        )
    print(table(counts))
    return int(any(count.equal < count.injected for count in counts.values()))


if __name__ == '__main__':
    sys.exit(main())
