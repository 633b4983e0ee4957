"""Commands as processes whose end is told in a line."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scopevit.errors import error_text

ROOT = Path(__file__).parents[2]
# What a tool says of bad input, and how Python ends.
ERROR = re.compile(r'error: |[\w.]+(Error|Exception|Interrupt)(: |$)')
SESSIONS: set[subprocess.Popen] = set()  # that are running
PATIENCE = 5.0  # seconds that a process has to end what it started


@dataclass(frozen=True)
class Ended:
    """How a process ended: after how many seconds, and why it failed, '' if it did not."""

    seconds: float
    failed: str = ''


def run(
    command: list[str],
    log: Path,
    limit: float | None = None,
    environment: dict[str, str] | None = None,
    apart: bool = False,
) -> Ended:
    """Runs a command in the repository, what it prints into a file.

    Args:
        command: Program and arguments.
        log: File, made with its folder.
        limit: Seconds after which it is stopped; None for none.
        environment: Variables beside those of this process.
        apart: Whether it has a session of its own, which ends with it: all that it started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with log.open('wb') as file:
        try:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=apart,
            )
        except OSError as error:
            return Ended(0.0, error_text(error))
        if apart:
            SESSIONS.add(process)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return Ended(limit, f'stopped after {limit:.0f} s; it said last: {last_line(log)}')
        finally:
            if apart:
                end_session(process)
            else:
                end_process(process)
    seconds = time.monotonic() - begin
    if code == 0:
        return Ended(seconds)
    how = f'killed by {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
    return Ended(seconds, f'{how}; it said last: {last_line(log)}')


def end_process(process: subprocess.Popen) -> None:
    """Ends a process that is still there."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_session(process: subprocess.Popen) -> None:
    """Ends a process that leads a session, and what is left of that.

    They are asked first: launchers have sessions of their own for what they started, and end them.
    """
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(ProcessLookupError):  # nobody is left
        os.killpg(process.pid, signal.SIGTERM)
        try:
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.05)
        finally:  # a second signal ends the patience alone
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    SESSIONS.discard(process)


def end_sessions() -> None:
    """Ends all that threads of this process have started apart."""
    for process in list(SESSIONS):
        end_session(process)


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP exceptions, so that what `run` started ends with this process."""

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    # One that is ignored stays so: `nohup` is to outlive a terminal.
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = [signal.signal(number, leave) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


def last_line(log: Path) -> str:
    """Returns the last line of a log that says something, its last error where it has one."""
    lines = [line.strip() for line in log.read_text('utf-8', 'replace').splitlines()]
    errors = [line for line in lines if ERROR.match(line)]
    return next(iter([*errors[-1:], *filter(None, reversed(lines))]), 'nothing')
