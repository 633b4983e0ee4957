"""Tells what works of this toolbox on a GPU, and how fast, the most important within 8 minutes.

    make gpu                        # or tools/gpu/run.sh WHEELS, on a machine without network
    make gpu ARGS='--device cpu'    # the same steps in short forms, to try the check itself

Every step is a process of its own, so that one that fails hides no other. Those that measure no
time go first, on a GPU several at once. gpu.md and gpu.json in work_dirs/gpu are written anew after
each of them.
"""

import argparse
import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from findings import Findings, read_findings
from processes import ROOT, end_sessions, ending_on_signals, run

from scopevit.benchmark.machine import check_device
from scopevit.benchmark.pages import log, make_folder
from scopevit.cli import PositiveFloat, run_tool
from scopevit.errors import InputError
from scopevit.files import write_json, write_text
from scopevit.report import markdown_table


@dataclass(frozen=True)
class Step:
    """A part of the check.

    Attributes:
        name: As on the command line.
        title: What it tells.
        function: What runs it, for `step.py`.
        limit: Seconds after which it is stopped.
        measures: Whether it measures time, and hence has the machine for itself.
    """

    name: str
    title: str
    function: str
    limit: float
    measures: bool = False


STEPS = (
    Step('machine', 'The machine', 'machine.check_machine', 60),
    Step('parity', 'The golden cases in every precision', 'parity.check_parity', 120),
    Step('gradients', 'Gradients of attention', 'attention.check_gradients', 90),
    Step('operators', 'The operators of detection', 'runs.check_operators', 120),
    Step('runs', 'Training, resuming and testing each task', 'runs.check_runs', 240),
    Step('compile', 'Compiled', 'runs.check_compile', 200),
    Step('kernels', 'The attention kernel of each layer', 'attention.check_kernels', 60, True),
    Step('shapes', 'The cost of a new shape', 'attention.check_shapes', 120, True),
    Step('inference', 'Speed of inference', 'speed.check_inference', 120, True),
    Step('steps', 'Training steps of the recipes', 'training.check_steps', 90, True),
    Step('convolutions', 'Depth-wise convolutions', 'speed.check_convolutions', 60, True),
    Step('table', 'The benchmark of models', 'speed.check_table', 90, True),
    Step('compiled-speed', 'Inference compiled', 'speed.check_compiled_speed', 150, True),
)
CORES_OF_A_STEP = 4  # on a GPU; as many steps that measure no time run at once
STEPS_FOLDER = 'gpu_steps'  # logs of the steps, and what they write
KEPT_LINES = 30  # of the log of a step that has problems


@dataclass
class Outcome:
    """How a step ended."""

    step: Step
    seconds: float | None  # None if it was not begun
    findings: Findings
    log: Path

    @property
    def verdict(self) -> str:
        if self.seconds is None:
            return 'not run: no time was left'
        count = len(self.findings.problems)
        return f'{count} problem{"s" * (count > 1)}' if count else 'ok'


def new_folder(path: Path) -> Path:
    """Makes a folder anew, in place of that of an earlier run."""
    try:
        if os.path.lexists(path):
            shutil.rmtree(path)
        path.mkdir(parents=True)
    except OSError as error:  # a file or a link is somebody else's
        raise InputError(
            f'--out: cannot make the folder {path} anew: {error.strerror or error}'
        ) from error
    return path


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other checks out of a folder.

    Raises:
        InputError: If one is at it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f'--out: another check writes to {folder}: wait for it, or give another folder'
        ) from error
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def run_step(step: Step, device: str, folder: Path, seconds_left: float) -> Outcome:
    """Runs a step, unless there is no time left for it."""
    own = new_folder(folder / STEPS_FOLDER / step.name)
    path, step_log = own / 'findings.json', own / 'log.txt'
    if seconds_left < 1:
        return Outcome(step, None, Findings(path), step_log)
    program = ROOT / 'tools' / 'gpu' / 'step.py'
    limit = min(step.limit, seconds_left)
    command = [sys.executable, str(program), step.function, device, str(path), str(limit)]
    # Steps run in the repository, where a relative path of the user's would be another one.
    users = filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))
    paths = [str(ROOT), str(ROOT / 'tests'), *map(os.path.abspath, users)]
    environment = {
        'PYTHONPATH': os.pathsep.join(paths),
        # Threads that wait take no core from others that compute.
        'OMP_WAIT_POLICY': 'passive',
        # A compiler that is stopped leaves half a file, which others would load.
        'TORCHINDUCTOR_CACHE_DIR': str(own / 'inductor'),
    }
    ended = run(command, step_log, limit, environment, apart=True)
    try:
        findings = read_findings(path)
    except (TypeError, ValueError) as error:
        findings = Findings(path, problems=[f'its findings cannot be read: {error}'])
    if ended.failed:
        findings.problems.append(ended.failed)
    return Outcome(step, ended.seconds, findings, step_log)


def make_page(outcomes: list[Outcome], device: str, seconds: float) -> str:
    """Returns the page of the check in Markdown."""
    rows = [
        [o.step.title, '' if o.seconds is None else f'{o.seconds:.0f}', o.verdict] for o in outcomes
    ]
    parts = [f'# Check on {device}, {seconds / 60:.1f} minutes\n']
    parts += [markdown_table(['step', 'seconds', 'result'], rows)]
    bad = [o for o in outcomes if o.findings.problems]
    if bad:
        lines = [f'- {o.step.name}: {line}\n' for o in bad for line in o.findings.problems]
        parts += ['## Problems\n', ''.join(lines)]
    for outcome in outcomes:
        findings = outcome.findings
        if findings.pages or findings.notes:
            parts += [f'## {outcome.step.title}\n']
        for title, text in findings.pages.items():
            parts += [f'### {title}\n', text]
        if findings.notes:
            parts += [''.join(f'- {line}\n' for line in findings.notes)]
    for outcome in bad:
        if outcome.log.is_file():
            lines = outcome.log.read_text('utf-8', 'replace').splitlines()[-KEPT_LINES:]
            parts += [f'## The end of the log of {outcome.step.name}\n']
            parts += ['```\n' + ''.join(f'{line}\n' for line in lines) + '```\n']
    return '\n'.join(parts)


def write_report(outcomes: list[Outcome], device: str, folder: Path, seconds: float) -> None:
    """Writes gpu.md and gpu.json."""
    write_text(folder / 'gpu.md', make_page(outcomes, device, seconds))
    steps = {
        o.step.name: {
            'seconds': o.seconds,
            'problems': o.findings.problems,
            'notes': o.findings.notes,
            'figures': o.findings.figures,
        }
        for o in outcomes
    }
    write_json(folder / 'gpu.json', {'device': device, 'seconds': seconds, 'steps': steps})


def check(steps: tuple[Step, ...], device: str, out: str, max_minutes: float) -> str:
    """Runs the steps and returns what to say of them.

    Raises:
        InputError: If there is no such device; or afterwards, if a step has problems.
    """
    check_device(device)
    folder = make_folder(out).resolve()
    with alone_in(folder):
        outcomes = run_steps(steps, device, folder, max_minutes)
    bad = [o.step.name for o in outcomes if o.findings.problems]
    left_out = [o.step.name for o in outcomes if o.seconds is None]
    no_time = f'; no time was left for {", ".join(left_out)}' if left_out else ''
    page = folder / 'gpu.md'
    if bad:
        raise InputError(
            f'problems in {len(bad)} of {len(steps)} steps: {", ".join(bad)}{no_time}; see {page}'
        )
    return f'no problem found{no_time}: {page}'


def run_steps(
    steps: tuple[Step, ...], device: str, folder: Path, max_minutes: float
) -> list[Outcome]:
    """Runs the steps, with the report written anew after each of them.

    Those that measure no time go first, on a GPU several at once.
    """
    begin = time.monotonic()
    outcomes: dict[Step, Outcome] = {}

    def run_one(step: Step) -> Outcome:
        spent = time.monotonic() - begin
        log(f'{spent:4.0f} s: {step.title}')
        return run_step(step, device, folder, 60 * max_minutes - spent)

    def keep(outcome: Outcome) -> None:
        for line in outcome.findings.problems:
            log(f'        {outcome.step.name}: {line}')
        outcomes[outcome.step] = outcome
        report()

    def report() -> None:
        known = [outcomes[step] for step in steps if step in outcomes]
        write_report(known, device, folder, time.monotonic() - begin)

    # An error now rather than after a step; and a check that is stopped leaves no earlier report.
    report()
    lanes = len(os.sched_getaffinity(0)) // CORES_OF_A_STEP if device == 'cuda' else 1
    pool = ThreadPoolExecutor(max(lanes, 1))
    try:
        for done in as_completed([pool.submit(run_one, s) for s in steps if not s.measures]):
            keep(done.result())
        for step in steps:
            if step.measures:
                keep(run_one(step))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        end_sessions()
        pool.shutdown()
    return [outcomes[step] for step in steps]


def choose_steps(names: list[str]) -> tuple[Step, ...]:
    """Returns the steps of some names, in order, all where there are none.

    Raises:
        InputError: If there is no step of a name.
    """
    known = [step.name for step in STEPS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f'--steps takes {", ".join(known)}, not {unknown[0]!r}')
    return tuple(step for step in STEPS if not names or step.name in names)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda', help='default: cuda')
    parser.add_argument(
        '--steps', nargs='+', default=[], metavar='NAME',
        help=f'some of: {" ".join(step.name for step in STEPS)}; default: all',
    )  # fmt: skip
    parser.add_argument(
        '--max-minutes', action=PositiveFloat, default=8.0, metavar='N', help='default: 8'
    )
    parser.add_argument(
        '--out', default='work_dirs/gpu', metavar='DIR', help='default: %(default)s'
    )
    args = parser.parse_args(argv)
    with ending_on_signals():
        print(check(choose_steps(args.steps), args.device, args.out, args.max_minutes))


if __name__ == '__main__':
    sys.exit(run_tool(main))
