"""One process for each config, ended where it takes too long, and watched where it dies."""

import math
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Generic, TypeVar

# What the libraries take seconds to import, each process has from its parent.
FORK = multiprocessing.get_context('fork')
GIB = 2**30
PATIENCE = 10  # times as long as it may compute, a process may take: others compute as well
HUNG, TOO_LONG = 'hangs', 'computes for longer than --seconds allows'

Task = TypeVar('Task')
Result = TypeVar('Result')


@dataclass(frozen=True)
class Limits:
    """What a process may take.

    Attributes:
        seconds: Time of a processor, after which it is ended; ten times as long at most in all.
        gib: Memory of its own, in GiB; more of it is refused.
    """

    seconds: float
    gib: float


@dataclass(frozen=True)
class Running(Generic[Task]):
    """A process and what it does."""

    process: ForkProcess
    results: Connection
    task: Task
    started: float


@dataclass(frozen=True)
class Ended(Generic[Task, Result]):
    """What became of a task.

    Attributes:
        task: The task.
        result: What the function returned, None where the process did not get that far.
        why: Why not: `HUNG`, `TOO_LONG`, or 'died' with the signal or exit code.
        seconds: How long it took.
    """

    task: Task
    result: Result | None
    why: str
    seconds: float


def run_each(
    function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, limits: Limits
) -> Iterator[Ended[Task, Result]]:
    """Calls a function with each task in a process of its own, some at a time.

    What the caller changes between two results, the processes that begin later see.

    Yields:
        What became of each task, as soon as it has ended.
    """
    waiting = list(reversed(tasks))
    running: list[Running[Task]] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(start(function, waiting.pop(), limits))
            earliest = min(each.started for each in running) + PATIENCE * limits.seconds
            wait([each.results for each in running], timeout=max(0.0, earliest - time.monotonic()))
            for each in list(running):
                ended: Ended[Task, Result] | None = look_at(each, limits)
                if ended is not None:
                    running.remove(each)
                    yield ended
    finally:
        for each in running:
            end(each.process)


def start(function: Callable[[Task], Result], task: Task, limits: Limits) -> Running[Task]:
    """Starts the process of a task."""
    results, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=work, args=(function, task, sender, limits), daemon=True)
    process.start()
    sender.close()  # else the end of the process would not close it
    return Running(process, results, task, time.monotonic())


def work(
    function: Callable[[Task], Result], task: Task, sender: Connection, limits: Limits
) -> None:
    """Is the process: calls the function, silently, and sends what it returns."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    # Not RLIMIT_AS: torch for GPUs maps more files than a machine has memory.
    limit = int(limits.gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = math.ceil(limits.seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))  # SIGXCPU, then SIGKILL
    sender.send(function(task))
    sender.close()


def look_at(each: Running[Task], limits: Limits) -> Ended[Task, Result] | None:
    """Returns what became of a process, None while it runs."""
    seconds = time.monotonic() - each.started
    if each.results.poll():
        try:
            result = each.results.recv()
        except EOFError:
            each.process.join()
            return Ended(each.task, None, death(each.process.exitcode), seconds)
        end(each.process, patience=5.0)
        return Ended(each.task, result, '', seconds)
    if seconds > PATIENCE * limits.seconds:
        end(each.process)
        return Ended(each.task, None, HUNG, seconds)
    return None


def death(code: int | None) -> str:
    """Says how a process ended that sent nothing."""
    if code == -signal.SIGXCPU:
        return TOO_LONG
    if code is not None and code < 0:
        return f'died of {signal.Signals(-code).name}'
    return f'died with exit code {code}'


def end(process: ForkProcess, patience: float = 0.0) -> None:
    """Ends a process, after some seconds in which it may do so itself."""
    process.join(patience)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()
