"""Times the backbone of another checkout, say of the commit before, against that of this one.

    git worktree add ../before HEAD~1
    python tools/benchmark/compare_checkouts.py ../before --cases inference-256x256-b1

Each checkout has a process of its own, with the same weights and images; both take turns, and the
ratio is taken round by round. Above 1 this checkout is faster, or needs less memory.
"""

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from scopevit.benchmark.backbone_cases import DEFAULT_CASES, parse_case
from scopevit.benchmark.backbone_table import PEERS
from scopevit.benchmark.forms import TRAINING, check_form
from scopevit.benchmark.timing import quartiles
from scopevit.cli import PositiveInt, run_tool
from scopevit.errors import InputError
from scopevit.report import markdown_table, number, spread

ROOT = Path(__file__).parents[2]
FORMS = ('eager', 'deployed', 'compiled', 'checkpointed')  # what any version of the package has
SECONDS = 0.3  # at least, of one visit
# What runs in the process of a checkout: it makes the case, says how large its peak memory and its
# outputs are, and then times as many passes as it is told. It must run with any version of the
# package, so it takes no more of it than the backbone and the meter.
WORKER = """
import json, sys, time
answers, sys.stdout = sys.stdout, sys.stderr  # what the package prints is no answer
import torch
from scopevit import ScopeViT
from scopevit.benchmark.memory import PeakMemory

case = json.loads(sys.argv[1])
torch.manual_seed(0)
form = case['form'].split('+')
model = ScopeViT(case['arch'], layer_scale_init_value=0.5, with_cp='checkpointed' in form).eval()
images = torch.randn(case['batch'], 3, *case['size'])
if 'deployed' in form:
    model.switch_to_deploy()
with torch.no_grad():
    outs = model(images)
model.train(case['training'])
forward = torch.compile(model, dynamic=False) if 'compiled' in form else model

def once(guard=torch.inference_mode):
    if case['training']:
        model.zero_grad(set_to_none=True)
        sum(out.square().mean() for out in forward(images)).backward()
    else:
        with guard():
            forward(images)

with torch._inductor.config.patch(freezing=not case['training']):
    once()
    once()
memory = PeakMemory()
if 'compiled' not in form:  # whose allocations are no operators
    with memory:
        once(torch.no_grad)
norms = [out.double().square().sum().item() for out in outs]
print(json.dumps([memory.peak_bytes, norms]), file=answers, flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    for _ in range(int(line)):
        once()
    print(time.perf_counter() - begin, file=answers, flush=True)
"""


class Worker:
    """The process of a checkout, which has one case ready."""

    def __init__(self, checkout: Path, case: dict) -> None:
        self.checkout = checkout
        # What is on the path may be where all packages are (tools/gpu/run.sh).
        paths = [str(checkout), *filter(None, [os.environ.get('PYTHONPATH')])]
        self.process = subprocess.Popen(
            [sys.executable, '-c', WORKER, json.dumps(case)],
            cwd=checkout,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.peak_bytes, self.norms = json.loads(self.answer())

    def seconds(self, passes: int) -> float:
        """Returns the seconds that some passes take."""
        with contextlib.suppress(BrokenPipeError):  # there is no answer then
            print(passes, file=self.process.stdin, flush=True)
        return float(self.answer())

    def answer(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise InputError(f'the process of {self.checkout} ended; its error is above')
        return line

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(other: Path, name: str, form: str, arch: str, rounds: int) -> list[str]:
    """Returns the row of a case: times, their ratio with its quartiles, that of memory."""
    mode, size, batch = parse_case(name)
    case = dict(form=form, arch=arch, size=size, batch=batch, training=mode == TRAINING)
    workers = [Worker(other, case), Worker(ROOT, case)]
    passes = max(round(SECONDS / workers[1].seconds(1)), 1)
    times: list[list[float]] = [[], []]
    for turn in range(rounds):
        for index in (0, 1) if turn % 2 else (1, 0):
            times[index].append(workers[index].seconds(passes) / passes)
    for worker in workers:
        worker.end()
    before, now = (quartiles(seconds)[1] * 1e3 for seconds in times)
    peaks = [worker.peak_bytes for worker in workers]
    differ = max(abs(a - b) / a for a, b in zip(workers[0].norms, workers[1].norms))
    return [
        name,
        form,
        number(before),
        number(now),
        spread(quartiles([a / b for a, b in zip(*times)])),
        number(peaks[0] / peaks[1]) if all(peaks) else '',
        f'{differ:.0e}',
    ]


def check_case(name: str, form: str) -> None:
    """Raises an InputError unless a case is compared in a form."""
    check_form(form, parse_case(name)[0])
    if not set(form.split('+')) <= set(FORMS):
        raise InputError(f'--forms: {form!r} is not compared, but {", ".join(FORMS)} are')


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('other', type=Path, help='folder of the other checkout')
    cases = [name for name in DEFAULT_CASES['cpu'] if name != PEERS]
    parser.add_argument('--cases', nargs='+', metavar='NAME', default=cases)
    parser.add_argument('--forms', nargs='+', metavar='FORM', default=['eager'])
    parser.add_argument('--arch', default='tiny', help='xtiny, tiny or small; default: tiny')
    parser.add_argument('--rounds', action=PositiveInt, default=15, metavar='N', help='default: 15')
    args = parser.parse_args(argv)
    if not (args.other / 'scopevit' / '__init__.py').is_file():
        raise InputError(f'no checkout of scopevit: {args.other}')
    pairs = list(dict.fromkeys(itertools.product(args.cases, args.forms)))
    for pair in pairs:  # an error now rather than after minutes
        check_case(*pair)
    begin, rows = time.monotonic(), []
    for name, form in pairs:
        rows.append(compare(args.other.resolve(), name, form, args.arch, args.rounds))
        print(f'{time.monotonic() - begin:.0f} s: {" ".join(rows[-1])}', file=sys.stderr)
    columns = [
        'case',
        'form',
        'other (ms)',
        'this (ms)',
        'times as fast',
        'memory',
        'outputs differ',
    ]
    print(markdown_table(columns, rows, '--' + 'r' * 5), end='')


if __name__ == '__main__':
    sys.exit(run_tool(main))
