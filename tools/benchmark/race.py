"""Trains ScopeViT and peers of like size from scratch by one recipe, and compares them.

    make race                 # 8 networks, 3 seeds each; 2 CPU cores: see configs/race/README.md

What is finished is not done again; what was interrupted goes on from its last checkpoint. Table and
plot are in work_dirs/race, with the logs and checkpoints of every run.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from scopevit.benchmark.complexity import count_complexity
from scopevit.benchmark.machine import describe_machine
from scopevit.benchmark.metrics import read_metrics, summarize
from scopevit.benchmark.networks import from_config
from scopevit.cli import PositiveInt, run_tool
from scopevit.engine.checks.weights import read_last_checkpoint
from scopevit.engine.config import read_config
from scopevit.errors import InputError
from scopevit.files import write_json, write_text
from scopevit.report import (
    Point,
    markdown_table,
    scatter_plot,
    size_text,
    write_figure,
)

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'
DEFAULT = sorted((ROOT / 'configs' / 'race').glob('*.py'))
# Threads that spin while they wait would take the core of the run beside them.
WAIT_POLICY = 'passive'
WHAT_IT_SHOWS = """\
The recipe, in configs/race, is 4 epochs of 6,000 images of Fashion-MNIST; the other images are
1,000.

**What it shows**: how fast each network learns from little data and little training, where strong
built-in assumptions (convolutions, pooling) help; and that the recipes, tools and tables work for
all of them. **What it does not show**: which network is best when trained to the end on ImageNet,
nor at high resolution, where networks with global attention are meant to gain. Images are 28x28,
enlarged to 56x56. With three seeds and 1,000 test images, differences below two points mean little.
Neither the learning rate nor anything else was tuned for any of them.
"""


@dataclass(frozen=True)
class Run:
    """One training: a config and a seed; its folder below that of the race."""

    config: Path
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return f'{self.config.stem}, seed {self.seed}'

    @property
    def metrics(self) -> Path:
        return self.folder / 'metrics.json'

    @property
    def settings(self) -> Path:
        return self.folder / 'race.json'


class Processes:
    """Runs commands, several at a time from as many threads, and can end them all.

    Args:
        threads: Threads for each.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.running: set[subprocess.Popen] = set()
        self.lock = threading.Lock()
        self.stopped = False

    def run(self, command: Sequence[object], log: Path) -> None:
        """Runs a Python tool with its output in `log`.

        Raises:
            InputError: If it fails; the message ends with what it said last.
        """
        env = {**os.environ, 'OMP_NUM_THREADS': str(self.threads), 'OMP_WAIT_POLICY': WAIT_POLICY}
        with log.open('a') as file:
            with self.lock:
                if self.stopped:
                    return
                process = subprocess.Popen(
                    [sys.executable, *map(str, command)],
                    cwd=ROOT,
                    env=env,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
                self.running.add(process)
            code = process.wait()
            with self.lock:
                self.running.remove(process)
        if code and not self.stopped:
            lines = log.read_text(errors='replace').strip().splitlines()
            last = lines[-1].removeprefix('error: ') if lines else f'exit code {code}'
            raise InputError(f'{Path(command[0]).name} stopped: {last} (log: {log})')

    def stop(self) -> None:
        """Ends what runs and lets nothing new start."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()


def run_one(run: Run, options: list[str], processes: Processes) -> float:
    """Trains and tests one run, or goes on with it; returns the seconds it took."""
    start = time.monotonic()
    options = [f'randomness.seed={run.seed}', *options]
    common = ['--work-dir', run.folder, '--cfg-options', *options]
    log = run.folder / 'race.log'
    train = [TOOLS / 'train.py', run.config, '--resume', 'auto', '--no-validate', *common]
    processes.run(train, log)
    if not processes.stopped:
        last = read_last_checkpoint(run.folder)
        processes.run([TOOLS / 'test.py', run.config, last and last[0], *common], log)
    return time.monotonic() - start


def run_all(runs: list[Run], options: list[str], jobs: int, threads: int) -> None:
    """Does the runs that are not done, `jobs` at a time.

    Raises:
        InputError: If one fails; those beside it are ended, and go on another time.
    """
    check_settings(runs, options)
    pending = [run for run in runs if not run.metrics.is_file()]
    print(f'{len(runs)} runs, {len(runs) - len(pending)} of them done', flush=True)
    processes = Processes(threads)
    start = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(run_one, run, options, processes): run for run in pending}
        try:
            for number, future in enumerate(as_completed(futures), 1):
                seconds = future.result()
                left = (time.monotonic() - start) / number * (len(pending) - number)
                print(
                    f'[{number}/{len(pending)}] {futures[future].name}: {seconds / 60:.1f} min, '
                    f'about {max(round(left / 60), 1)} min left',
                    flush=True,
                )
        finally:
            processes.stop()
            pool.shutdown(cancel_futures=True)


def check_settings(runs: list[Run], options: list[str]) -> None:
    """Keeps the settings of each run beside its results, for other ones not to be mixed in.

    Raises:
        InputError: If a folder holds a run with other settings.
    """
    for run in runs:
        text = read_config(run.config).pretty_text
        settings = {'config': hashlib.sha256(text.encode()).hexdigest(), 'options': options}
        if run.settings.is_file():
            if json.loads(run.settings.read_text()) != settings:
                raise InputError(
                    f'{run.folder} holds a run with other settings: delete it, or choose another '
                    '--out'
                )
        else:
            write_json(run.settings, settings)


def race(
    configs: list[Path], seeds: list[int], out: Path, options: list[str], jobs: int, threads: int
) -> None:
    """Trains and tests every config with every seed, then writes table and plot."""
    for config in configs:
        if not config.is_file():
            raise InputError(f'config not found: {config}')
    # Seeds are the outer loop: an interrupted race has run all networks equally often.
    runs = [
        Run(config.resolve(), seed, out / config.stem / f'seed{seed}')
        for seed in seeds
        for config in configs
    ]
    run_all(runs, options, jobs, threads)
    machine = describe_machine('cpu') | {
        'threads of torch': str(threads),
        'OMP_WAIT_POLICY': WAIT_POLICY,
        'runs at a time': str(jobs),
    }
    report(runs, out, is_default=not options and set(configs) == set(DEFAULT), machine=machine)


def report(runs: list[Run], out: Path, is_default: bool, machine: dict[str, str]) -> None:
    """Writes README.md with the table, and the plot as race.svg and race.png."""
    rows, points = [], []
    for config in dict.fromkeys(run.config for run in runs):
        metrics = [read_metrics(run.metrics)[1] for run in runs if run.config == config]
        scores = summarize(metrics)
        if not scores or scores[0].name != 'top-1':
            raise InputError(f'{config}: no accuracy/top1 was measured; the race takes classifiers')
        network = from_config(config)
        complexity = count_complexity(network)[0]
        name = config.stem.partition('_')[0]
        rows.append(
            [
                name,
                f'{complexity.parameters / 1e6:.2f}',
                f'{complexity.multiply_adds / 1e6:.1f}',
                scores[0].figures,
            ]
        )
        points.append(
            Point(
                name,
                complexity.multiply_adds / 1e6,
                scores[0].mean,
                scores[0].spread,
                accent=name.startswith('scopevit'),
            )
        )
    rows.sort(key=lambda row: -float(row[3].split()[0]))
    table = markdown_table(['network', 'parameters, M', 'multiply-adds, M', 'top-1, %'], rows)
    size = size_text(network.shape[1:])
    figure = scatter_plot(points, f'multiply-adds, millions ({size})', 'top-1 accuracy, %')
    for suffix in ('svg', 'png'):
        write_figure(figure, out / f'race.{suffix}')
    seeds = ', '.join(str(seed) for seed in dict.fromkeys(run.seed for run in runs))
    parts = [
        '# The race',
        f'{len(rows)} networks, each trained from scratch by one recipe. '
        f'Accuracy on other images, mean and standard deviation over the seeds {seeds}.',
        table,
        '![accuracy and multiply-adds](race.svg)',
        *([WHAT_IT_SHOWS] if is_default else []),
        'Machine: ' + ', '.join(f'{what} {which}' for what, which in machine.items()),
    ]
    write_text(out / 'README.md', '\n\n'.join(part.strip() for part in parts) + '\n')
    print(f'\n{table}\nTable and plot: {out / "README.md"}')


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='*', type=Path, help='default: all of configs/race')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'race')
    parser.add_argument(
        '--jobs', action=PositiveInt, help='runs at a time; default: one a core, at most 4'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='as in tools/train.py'
    )
    args = parser.parse_args(argv)
    cores = len(os.sched_getaffinity(0))
    jobs = args.jobs or min(cores, 4)
    configs = args.configs or DEFAULT
    seeds = list(dict.fromkeys(args.seeds))
    # A shell that starts the race in the background has it ignore SIGINT.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    try:
        race(configs, seeds, args.out.resolve(), args.cfg_options, jobs, max(cores // jobs, 1))
    except KeyboardInterrupt:
        print('\nStopped; the same command goes on from here.', file=sys.stderr)
        sys.exit(130)


if __name__ == '__main__':
    sys.exit(run_tool(main))
