"""Trains and tests ScopeViT-xtiny on four tasks and real images, and draws what it predicts.

    make demo                # all four, about 19 minutes on 2 CPU cores
    make demo TASK=pose      # one of classification, segmentation, detection, pose

What is finished is not done again; what was interrupted goes on from its last checkpoint. Results
are in work_dirs/demo: README.md with the table, a picture a task, checkpoints, logs.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import baselines
import pictures

from scopevit.cli import run_tool
from scopevit.errors import InputError
from scopevit.files import write_json, write_text

ROOT = Path(__file__).parents[2]
DATA = ROOT / 'data' / 'demo'


@dataclass(frozen=True)
class Task:
    """One recipe of the demo.

    Attributes:
        name: As on the command line.
        config: Below configs/demo.
        data: Folder below data/demo.
        images: What it is trained on, for the table.
        metrics: Keys of the library's metrics, and how the table calls them.
        in_percent: Whether the library gives them in percent rather than as fractions.
        baselines: Functions of the data folder, and what the table calls them.
        draw: Draws predictions beside the ground truth.
        minutes: Rough time on 2 CPU cores, for the estimate of the time left.
        backbone_from: Task whose trained backbone this one starts from.
    """

    name: str
    config: str
    data: str
    images: str
    metrics: dict[str, str]
    in_percent: bool
    baselines: dict[str, Callable[[Path], dict[str, float]]]
    draw: Callable[[Path, Path, Path], None]
    minutes: float
    backbone_from: str | None = None


TASKS = {
    task.name: task
    for task in (
        Task(
            name='classification',
            config='classification_scopevit-xtiny_fashion-mnist.py',
            data='fashion_mnist',
            images='6,000 of 28×28',
            metrics={'accuracy/top1': 'accuracy'},
            in_percent=True,
            baselines={'most frequent class': baselines.classification_baseline},
            draw=pictures.draw_classification,
            minutes=3,
        ),
        Task(
            name='segmentation',
            config='fpn_scopevit-xtiny_nuclei.py',
            data='nuclei',
            images='48 of 250×250',
            metrics={'mIoU': 'mIoU'},
            in_percent=True,
            baselines={'all background': baselines.segmentation_baseline},
            draw=pictures.draw_segmentation,
            minutes=5,
        ),
        Task(
            name='detection',
            config='mask-rcnn_scopevit-xtiny_fpn_nuclei.py',
            data='nuclei',
            images='48 of 250×250',
            metrics={'coco/bbox_mAP_50': 'box AP50', 'coco/segm_mAP_50': 'mask AP50'},
            in_percent=False,
            baselines={'best grid of boxes': baselines.detection_baseline},
            draw=pictures.draw_detection,
            minutes=6,
            backbone_from='segmentation',
        ),
        Task(
            name='pose',
            config='td-hm_scopevit-xtiny_people-256x192.py',
            data='pose',
            images='72 with 108 people',
            metrics={'coco/AP': 'keypoint AP'},
            in_percent=False,
            baselines={
                'mean pose': baselines.pose_baseline,
                "the camera's nearest remembered pose": baselines.pose_memory_baseline,
            },
            draw=pictures.draw_pose,
            minutes=5,
        ),
    )
}


class Progress:
    """Says how far a task is and how long the rest will take, on one line.

    Args:
        tasks: What is still to be done, in order.
    """

    def __init__(self, tasks: list[Task]) -> None:
        self.tasks = tasks
        self.done = 0
        self.last_print = 0.0
        self.is_terminal = sys.stdout.isatty()

    def say(self, doing: str, seconds_left: float | None = None, final: bool = False) -> None:
        """Prints the line, now and then; on a terminal it replaces the one before."""
        now = time.monotonic()
        if not final and now - self.last_print < (0.5 if self.is_terminal else 15):
            return
        self.last_print = now
        task = self.tasks[self.done]
        line = f'[{self.done + 1}/{len(self.tasks)}] {task.name}: {doing}'
        if seconds_left is not None:
            rest = seconds_left / 60 + sum(t.minutes for t in self.tasks[self.done + 1 :])
            line += (
                f', {format_minutes(seconds_left / 60)} left of it, {format_minutes(rest)} in all'
            )
        if self.is_terminal:
            print(f'\r\x1b[K{line}', end='\n' if final else '', flush=True)
        else:
            print(line, flush=True)


def format_minutes(minutes: float) -> str:
    return f'about {max(round(minutes), 1)} min'


# mmengine's line of a training step: [epoch][step/steps] or [step/steps], then the time left.
STEP = re.compile(
    r'\(train\)\s+(?:\[\s*(?P<epoch>\d+)\])?\[\s*(?P<step>\d+/\d+)\].*?eta: (?P<eta>[\d:]+)'
)
LOSS = re.compile(r'  loss: ([\d.]+)')


def run_process(command: list[str], log: Path, report: Callable[[str], None]) -> None:
    """Runs one of the tools, its output in `log`, and reports each line.

    Raises:
        InputError: If it fails; the message ends with what it said last.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    last = ''
    # Threads that spin while they wait take the cores of whatever else runs on a laptop: on 2 cores
    # a step took up to 20 times as long beside another program. Asleep it takes 1.4 times at most.
    env = {'OMP_WAIT_POLICY': 'passive', **os.environ}
    with log.open('a') as file:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                last = line.strip() or last
                report(line)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.wait():
        raise InputError(f'{command[0]} stopped: {last.removeprefix("error: ")} (log: {log})')


def best_checkpoint(folder: Path) -> Path | None:
    """Returns the checkpoint that validated best, the last where none did, None where none is."""
    found = sorted(folder.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    if found:
        return found[-1]
    last = folder / 'last_checkpoint'
    return folder / last.read_text().strip() if last.is_file() else None


def train(task: Task, folder: Path, options: list[str], progress: Progress) -> None:
    """Trains a task, or goes on with it."""

    def report(line: str) -> None:
        step, loss = STEP.search(line), LOSS.search(line)
        if step:
            where = f'epoch {step["epoch"]}, ' if step['epoch'] else ''
            seconds = 0
            for part in step['eta'].split(':'):
                seconds = 60 * seconds + int(part)
            doing = f'training, {where}step {step["step"]}'
            progress.say(doing + (f', loss {float(loss[1]):.3g}' if loss else ''), seconds)
        elif '(val)' in line:
            progress.say('validating')

    config = ROOT / 'configs' / 'demo' / task.config
    command = ['tools/train.py', str(config), '--work-dir', str(folder), '--resume', 'auto']
    if options:
        command += ['--cfg-options', *options]
    run_process(command, folder / 'train.log', report)


def test(task: Task, folder: Path, progress: Progress) -> dict[str, float]:
    """Tests a task's best checkpoint, draws its predictions and returns its metrics."""
    checkpoint = best_checkpoint(folder)
    if checkpoint is None:
        raise InputError(f'no checkpoint in {folder}; delete the folder to train again')
    progress.say('testing', final=True)
    predictions = folder / 'test' / 'predictions.pkl'
    config = ROOT / 'configs' / 'demo' / task.config
    command = ['tools/test.py', str(config), str(checkpoint), '--out', str(predictions)]
    run_process(
        [*command, '--work-dir', str(folder / 'test')], folder / 'test.log', lambda line: None
    )
    task.draw(predictions, DATA / task.data, folder.parent / f'{task.name}.png')
    return json.loads((folder / 'test' / 'metrics.json').read_text())['metrics']


def run_task(task: Task, out: Path, options: list[str], progress: Progress) -> dict:
    """Trains and tests one task; returns and keeps what the table needs."""
    folder = out / task.name
    folder.mkdir(parents=True, exist_ok=True)
    options = list(options)
    if task.backbone_from:
        checkpoint = best_checkpoint(out / task.backbone_from)
        if checkpoint is None:
            raise InputError(f'no checkpoint in {out / task.backbone_from}; delete the folder')
        options += [
            'model.backbone.init_cfg.type=Pretrained',
            f'model.backbone.init_cfg.checkpoint={checkpoint}',
            'model.backbone.init_cfg.prefix=backbone.',
        ]
    spent = folder / 'seconds.json'  # of earlier, interrupted runs
    before = json.loads(spent.read_text()) if spent.is_file() else 0.0
    start = time.monotonic()
    try:
        train(task, folder, options, progress)
        metrics = test(task, folder, progress)
    finally:
        seconds = before + time.monotonic() - start
        write_json(spent, seconds)
    trivial = {label: function(DATA / task.data) for label, function in task.baselines.items()}
    result = {
        'metrics': as_fractions(task, metrics),
        'baselines': {label: as_fractions(task, values) for label, values in trivial.items()},
        'minutes': seconds / 60,
        'checkpoint': os.path.relpath(best_checkpoint(folder), out),
        'picture': f'{task.name}.png',
    }
    write_json(folder / 'result.json', result)
    return result


def as_fractions(task: Task, metrics: dict[str, float]) -> dict[str, float]:
    """Returns the metrics of the table by the names there, from 0 to 1."""
    scale = 0.01 if task.in_percent else 1.0
    return {name: metrics[key] * scale for key, name in task.metrics.items()}


def read_results(out: Path) -> dict[str, dict]:
    """Returns the results of the finished tasks by name, in order."""
    paths = {name: out / name / 'result.json' for name in TASKS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}


def make_table(results: dict[str, dict]) -> str:
    """Returns the Markdown table of the finished tasks."""
    lines = [
        '| task | training images | metric on held-out images | trivial baseline | minutes '
        '| checkpoint | pictures |',
        '|---|---|---|---|---|---|---|',
    ]
    for name, result in results.items():
        metrics = '<br>'.join(f'{k} **{v:.3f}**' for k, v in result['metrics'].items())
        trivial = '<br>'.join(
            f'{value:.3f} ({label})'
            for label, values in result['baselines'].items()
            for value in values.values()
        )
        lines.append(
            f'| {name} | {TASKS[name].images} | {metrics} | {trivial} '
            f'| {result["minutes"]:.1f} | `{result["checkpoint"]}` '
            f'| [{result["picture"]}]({result["picture"]}) |'
        )
    return '\n'.join(lines)


def write_readme(out: Path, results: dict[str, dict]) -> None:
    """Writes README.md with the table and the pictures, and one picture of all of them."""
    pictures.draw_overview([out / r['picture'] for r in results.values()], out / 'overview.png')
    parts = [
        '# The demo: ScopeViT-xtiny on four tasks',
        'Made by `make demo`. The numbers are those of small held-out sets (data/demo/README.md '
        'says which and with what care to read them); they show that the toolbox works, not how '
        'good the network is.',
        make_table(results),
        *(f'## {name}\n\n![{name}]({result["picture"]})' for name, result in results.items()),
    ]
    write_text(out / 'README.md', '\n\n'.join(parts) + '\n')


def plan(chosen: str | None, finished: dict[str, dict]) -> list[Task]:
    """Returns the tasks to run, what others start from before them.

    Raises:
        InputError: If there is no such task.
    """
    if chosen and chosen not in TASKS:
        raise InputError(f'TASK must be one of {", ".join(TASKS)}, not {chosen!r}')
    wanted = [TASKS[chosen]] if chosen else list(TASKS.values())
    tasks = []
    for task in wanted:
        source = task.backbone_from
        if source and TASKS[source] not in tasks:
            tasks.append(TASKS[source])
        if task not in tasks:
            tasks.append(task)
    return [task for task in tasks if task.name not in finished]


def demo(chosen: str | None, out: Path, options: list[str]) -> None:
    """Runs what is not finished and shows the table."""
    tasks = plan(chosen, read_results(out))
    progress = Progress(tasks)
    if tasks:
        minutes = format_minutes(sum(task.minutes for task in tasks))
        print(f'{", ".join(task.name for task in tasks)}: {minutes} on 2 CPU cores', flush=True)
    for task in tasks:
        progress.say('starting', final=True)
        result = run_task(task, out, options, progress)
        metrics = ', '.join(f'{name} {value:.3f}' for name, value in result['metrics'].items())
        progress.say(f'{metrics} after {result["minutes"]:.1f} min', final=True)
        progress.done += 1
    results = read_results(out)
    write_readme(out, results)
    print(f'\n{make_table(results)}\n\nTable and pictures: {out / "README.md"}')
    print('Delete a folder there to do its task again.')


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--task', help=f'only one of {", ".join(TASKS)}')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'demo')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='as in tools/train.py'
    )
    args = parser.parse_args(argv)
    # Both shall end the training, which runs in a process of its own; a shell that starts the demo
    # in the background has it ignore the first.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    try:
        demo(args.task or None, args.out, args.cfg_options)
    except KeyboardInterrupt:
        print('\nStopped; the same command goes on from here.', file=sys.stderr)
        sys.exit(130)


if __name__ == '__main__':
    sys.exit(run_tool(main))
