"""Trains ScopeViT and peers of like size from scratch by one recipe, and compares them.

    make race                 # 8 networks, 3 seeds each; 2 CPU cores: see configs/race/README.md

What is finished is not done again; what was interrupted goes on from its last checkpoint. Table and
plot are in work_dirs/race, with the logs and checkpoints of every run.
"""

import argparse
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
from scopevit.benchmark.metrics import find_scores
from scopevit.benchmark.networks import from_config
from scopevit.benchmark.report import (
    Point,
    markdown_table,
    scatter_plot,
    write_figure,
)
from scopevit.engine.cli import run_tool
from scopevit.errors import InputError
from scopevit.files import write_text

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'
WHAT_IT_SHOWS = """\
Eight networks of like size, each trained from scratch on 6,000 images of Fashion-MNIST for 4 epochs
by one recipe (configs/race), and tested on 1,000 others; mean and standard deviation over the
seeds.

**What it shows**: how fast each network learns from little data and little training, where strong
built-in assumptions (convolutions, pooling) help; and that the recipes, tools and tables work for
all of them. **What it does not show**: which network is best when trained to the end on ImageNet,
nor at high resolution, where networks with global attention are meant to gain. Images are 28x28,
enlarged to 56x56; differences of less than about two standard deviations mean nothing; neither
the learning rate nor anything else was tuned for any of them.
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
    def is_done(self) -> bool:
        return (self.folder / 'metrics.json').is_file()


class Processes:
    """Runs commands, several at a time from as many threads, and can end them all.

    Args:
        threads (int): Threads for each.
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
        # Threads that spin while they wait would take the core of the run beside them.
        env = {**os.environ, 'OMP_NUM_THREADS': str(self.threads), 'OMP_WAIT_POLICY': 'passive'}
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
    run.folder.mkdir(parents=True, exist_ok=True)
    options = [f'randomness.seed={run.seed}', *options]
    common = ['--work-dir', run.folder, '--cfg-options', *options]
    log = run.folder / 'race.log'
    train = [TOOLS / 'train.py', run.config, '--resume', 'auto', '--no-validate', *common]
    processes.run(train, log)
    if not processes.stopped:
        checkpoint = Path((run.folder / 'last_checkpoint').read_text().strip())
        processes.run([TOOLS / 'test.py', run.config, checkpoint, *common], log)
    return time.monotonic() - start


def run_all(runs: list[Run], options: list[str], jobs: int, threads: int) -> None:
    """Does the runs that are not done, `jobs` at a time.

    Raises:
        InputError: If one fails; those beside it are ended, and go on another time.
    """
    pending = [run for run in runs if not run.is_done]
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
    report(configs, out)


def report(configs: list[Path], out: Path) -> None:
    """Writes README.md with the table, and the plot as race.svg and race.png."""
    scores = find_scores(out)
    entries = []
    for config in configs:
        if not scores.get(config.stem):
            raise InputError(
                f'{config} was tested without accuracy/top1: the race takes classifiers'
            )
        complexity = count_complexity(from_config(config))[0]
        entries.append((config.stem.partition('_')[0], complexity, scores[config.stem][0]))
    entries.sort(key=lambda entry: -entry[2].mean)
    rows = [
        [
            name,
            f'{complexity.parameters / 1e6:.2f}',
            f'{complexity.multiply_adds / 1e6:.1f}',
            f'{score.mean:.1f} ± {score.deviation:.1f}' if score.deviation else f'{score.mean:.1f}',
            str(score.runs),
        ]
        for name, complexity, score in entries
    ]
    columns = ['network', 'parameters, M', 'multiply-adds, M', 'top-1, %', 'seeds']
    table = markdown_table(columns, rows)
    points = [
        Point(
            name,
            complexity.multiply_adds / 1e6,
            score.mean,
            spread=score.deviation and (score.mean - score.deviation, score.mean + score.deviation),
            accent=name.startswith('scopevit'),
        )
        for name, complexity, score in entries
    ]
    figure = scatter_plot(points, 'multiply-adds, millions (56×56)', 'top-1 accuracy, %')
    for suffix in ('svg', 'png'):
        write_figure(figure, out / f'race.{suffix}')
    machine = ', '.join(f'{name} {value}' for name, value in describe_machine('cpu').items())
    parts = ['# The race', WHAT_IT_SHOWS, table, '![accuracy and multiply-adds](race.svg)', machine]
    write_text(out / 'README.md', '\n\n'.join(part.strip() for part in parts) + '\n')
    print(f'\n{table}\nTable and plot: {out / "README.md"}')


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='*', type=Path, help='default: all of configs/race')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'race')
    parser.add_argument('--jobs', type=int, help='runs at a time; default: one a core, at most 4')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='as in tools/train.py'
    )
    args = parser.parse_args(argv)
    if args.jobs is not None and args.jobs < 1:
        raise InputError(f'--jobs must be at least 1, not {args.jobs}')
    cores = len(os.sched_getaffinity(0))
    jobs = args.jobs or min(cores, 4)
    configs = args.configs or sorted((ROOT / 'configs' / 'race').glob('*.py'))
    seeds = list(dict.fromkeys(args.seeds))
    # A shell that starts the race in the background has it ignore the first.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    try:
        race(configs, seeds, args.out, args.cfg_options, jobs, max(cores // jobs, 1))
    except KeyboardInterrupt:
        print('\nStopped; the same command goes on from here.', file=sys.stderr)
        sys.exit(130)


if __name__ == '__main__':
    sys.exit(run_tool(main))
