"""Damages inputs at random, and sees that each is refused in one line or taken: `make fuzz`.

python tests/fuzz.py --inputs 10000 [--seed 0] [--kinds NAME ...] [--minutes M] [--only I]
"""

import argparse
import gc
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ['CUDA_VISIBLE_DEVICES'] = ''

import torch
from fuzzing import checkpoints, configs, own_data, training
from fuzzing.kind import Kind
from mmengine.config import Config
from mmengine.logging import MMLogger

from scopevit.compat.external_configs import CONFIGS
from scopevit.engine.libraries import LIBRARIES, find_library
from scopevit.errors import InputError, error_text
from scopevit.own_data import draft
from scopevit.own_data.schedule import RECIPES
from scopevit.report import markdown_table

KINDS: dict[str, type[Kind]] = {
    'coco': training.CocoFile,
    'coco-keypoints': training.Keypoints,
    'label-list': training.LabelList,
    'label-map': training.LabelMap,
    'new-coco': own_data.OwnCoco,
    'new-keypoints': own_data.OwnKeypoints,
    'new-yolo': own_data.Yolo,
    'new-voc': own_data.Voc,
    'new-labelme': own_data.LabelMe,
    'new-label-maps': own_data.OwnLabelMaps,
    'checkpoint': checkpoints.Checkpoint,
    'checkpoint-bytes': checkpoints.CheckpointBytes,
    'safetensors': checkpoints.Safetensors,
    'stored-config': checkpoints.StoredConfig,
    'last-checkpoint': checkpoints.Pointer,
    'export-json': checkpoints.ExportedJson,
    'override': configs.Override,
    'yaml-config': configs.DataConfig,
    'metafile': configs.Metafile,
    'published': configs.PublishedResults,
    'boxes': configs.Boxes,
    'log': configs.Log,
}
SECONDS = 30  # until an input hangs
MEMORY = 4 * 2**30  # bytes beyond those of the libraries
LONGEST = 1_000  # letters of a line that is to be read
# What no damaged file may ask the system for.
FORBIDDEN = ('os.system', 'os.exec', 'os.posix_spawn', 'subprocess.Popen', 'socket.connect',
             'socket.getaddrinfo')  # fmt: skip
REFUSED, ACCEPTED = 'refused', 'accepted'  # everything else is a failure, and says what happened


@dataclass
class Count:
    """What came of the inputs of a kind."""

    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, outcome: str, where: str) -> None:
        """Counts an input."""
        self.inputs += 1
        self.refused += outcome == REFUSED
        self.accepted += outcome == ACCEPTED
        if outcome not in (REFUSED, ACCEPTED):
            self.failures.append(f'{where}: {outcome}')
            print(ascii(self.failures[-1])[1:-1], flush=True)


def take(kind: Kind, name: str, number: int, seed: int, asked: list[str]) -> str:
    """Lets a kind take its input of a number; returns what came of it."""
    asked.clear()
    try:
        kind.take(random.Random(f'{seed} {name} {number}'))
        outcome = ACCEPTED
    except InputError as error:
        text = error_text(error)
        outcome = REFUSED
        if not any(part in text for part in kind.names):
            outcome = f'no file or key in the message: {text[:300]}'
        elif len(text) > LONGEST:
            outcome = f'a message of {len(text)} letters: {text[:300]}'
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if '/scopevit/' in frame.filename]
        places = [f'{frame.filename}:{frame.lineno}' for frame in (*ours[-1:], frames[-1])]
        outcome = f'{error_text(error)[:300]} ({", ".join(dict.fromkeys(places))})'
    if kind.canary.exists():
        kind.canary.unlink()
        outcome = 'code in the input was executed'
    if asked:
        outcome = f'the input made it call {asked[0]}'
    return outcome


def work(pipe: Connection, seed: int, folder: Path) -> None:
    """Takes inputs until the pipe ends."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    kinds: dict[str, Kind] = {}
    asked = watch()
    while True:
        try:
            name, number = pipe.recv()
        except EOFError:
            return
        if name not in kinds:
            (folder / name).mkdir(parents=True)
            kinds[name] = KINDS[name](folder / name, folder / 'canary')
        pipe.send(take(kinds[name], name, number, seed, asked))


def watch() -> list[str]:
    """Returns a list that tells from now on what of `FORBIDDEN` was asked for."""
    asked: list[str] = []

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN:
            asked.append(f'{event}{arguments!r:.200}')

    sys.addaudithook(hear)
    return asked


class Worker:
    """A process that takes inputs, one after another, and another one where it has ended."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder, self.starts = seed, folder, 0
        self.task: tuple[str, int] | None = None
        self.start()

    def start(self) -> None:
        """Starts a process in a folder of its own."""
        context = multiprocessing.get_context('fork')
        self.pipe, theirs = context.Pipe()
        place = self.folder / f'{id(self)}_{self.starts}'
        self.process = context.Process(target=work, args=(theirs, self.seed, place), daemon=True)
        self.process.start()
        theirs.close()
        self.starts += 1

    def give(self, task: tuple[str, int]) -> None:
        """Gives it the number of an input of a kind."""
        self.task, self.given = task, time.monotonic()
        self.pipe.send(task)

    def outcome(self, limit: float) -> str | None:
        """Returns what came of its input; None where it is still at it."""
        try:
            if self.pipe.poll():
                answer: str = self.pipe.recv()
                return answer
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode
            self.start()
            return f'the process ended with code {code}'
        if time.monotonic() - self.given < limit:
            return None
        self.stop()
        self.start()
        return f'no end within {limit:g} s'

    def stop(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def fuzz(
    names: list[str], inputs: int, seed: int, minutes: float | None, workers: list[Worker]
) -> dict[str, Count]:
    """Lets workers take inputs, of all kinds in turn, up to a number or for a time."""
    counts = {name: Count() for name in names}
    tasks = islice(tasks_of(names), inputs)
    end = time.monotonic() + 60 * minutes if minutes else float('inf')
    for worker in workers:
        give_next(worker, tasks, end)
    while busy := [worker for worker in workers if worker.task]:
        wait([worker.pipe for worker in busy], timeout=1)
        for worker in busy:
            assert worker.task is not None
            outcome = worker.outcome(SECONDS)
            if outcome is not None:
                name, number = worker.task
                where = f'--seed {seed} --kinds {name} --only {number}'
                counts[name].seconds += time.monotonic() - worker.given
                counts[name].add(outcome, where)
                give_next(worker, tasks, end)
    return counts


def give_next(worker: Worker, tasks: Iterator[tuple[str, int]], end: float) -> None:
    """Gives a worker the next input, if there is one and time for it."""
    worker.task = None
    task = next(tasks, None) if time.monotonic() < end else None
    if task:
        worker.give(task)


def tasks_of(names: list[str]) -> Iterator[tuple[str, int]]:
    """Yields kinds in turn, with the number of the input."""
    number = 0
    while True:
        yield from ((name, number) for name in names)
        number += 1


def table(counts: dict[str, Count]) -> str:
    """Returns what came of inputs."""
    head = ['kind', 'inputs', 'clear errors', 'accepted', 'failures', 'ms an input']
    rows = {n: [c.inputs, c.refused, c.accepted, len(c.failures)] for n, c in counts.items()}
    rows['all'] = [sum(column) for column in zip(*rows.values())]
    seconds = [*(c.seconds for c in counts.values()), sum(c.seconds for c in counts.values())]
    cells = [
        [name, *(f'{value:,}' for value in row), f'{1000 * spent / max(1, row[0]):.0f}']
        for (name, row), spent in zip(rows.items(), seconds)
    ]
    return markdown_table(head, cells, 'lrrrrr')


def load_all() -> None:
    """Loads what all processes share, and lets `scopevit new` read each recipe once."""
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    for name in LIBRARIES:
        find_library(name)
    MMLogger.get_current_instance().setLevel('ERROR')
    draft.Config = SimpleNamespace(fromfile=lru_cache(Config.fromfile))  # type: ignore[misc]
    checkpoints.miniature()
    for recipe in RECIPES.values():
        draft.Config.fromfile(CONFIGS / '_base_' / 'own_data' / f'{recipe.base}.py')
    gc.collect()
    gc.freeze()  # mmengine collects garbage for each data set, also in all that was imported


def repeat(name: str, number: int, seed: int, folder: Path) -> int:
    """Takes one input in this process, with the traceback of what it raises."""
    canary, place = folder / 'canary', folder / name
    place.mkdir()
    print(f'in {place}', flush=True)
    KINDS[name](place, canary).take(random.Random(f'{seed} {name} {number}'))
    return 0


def main() -> int:
    """Runs the fuzz; returns the exit code, 1 where an input was neither refused nor taken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--inputs', type=int, default=10_000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kinds', nargs='+', choices=list(KINDS), default=list(KINDS))
    parser.add_argument('--minutes', type=float, help='at most; default: until all are done')
    parser.add_argument('--processes', type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument('--only', type=int, help='takes one input of a kind, in this process')
    args = parser.parse_args()
    load_all()
    if args.only is not None:
        return repeat(args.kinds[0], args.only, args.seed, Path(tempfile.mkdtemp()))
    with tempfile.TemporaryDirectory() as folder:
        workers = [Worker(args.seed, Path(folder)) for _ in range(args.processes)]
        start = time.monotonic()
        counts = fuzz(args.kinds, args.inputs, args.seed, args.minutes, workers)
        seconds = time.monotonic() - start
        for worker in workers:
            worker.stop()
    print(table(counts))
    print(f'{sum(c.inputs for c in counts.values())} inputs in {seconds:.0f} s')
    return int(any(count.failures for count in counts.values()))


if __name__ == '__main__':
    sys.exit(main())
