"""Loss and metric curves from the logs that mmengine writes, as a picture and in words.

The libraries have tools for it, one each, that read a single file: here the files of a training
that was resumed are joined, and runs of several libraries are compared.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scopevit.errors import InputError
from scopevit.report import write_figure

LOG = Path('vis_data', 'scalars.json')
# What a line is about, and what else a line of validation has beside metrics.
PLACE = ('epoch', 'iter', 'step')
COSTS = ('data_time', 'memory', 'time')
# Colours that the colour-blind tell apart (Okabe and Ito).
COLORS = ('#0072b2', '#e69f00', '#009e73', '#d55e00', '#cc79a7', '#56b4e9', '#000000', '#999999')
# As many as have no common factor with the colours: no pair comes twice soon.
MARKERS = 'os^vD*P'
LINES = ('-', '--', ':')
# What is drawn unless asked otherwise: of each task's many metrics those that papers compare.
MAIN_METRICS = ('accuracy/top1', 'mIoU', 'coco/bbox_mAP', 'coco/segm_mAP', 'pascal_voc/mAP',
                'coco/AP', 'PCK')  # fmt: skip
LOWER_IS_BETTER = re.compile(r'loss|error|epe|nme|mae|rmse|pjpe', re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """A line of a log."""

    step: int  # of training, iterations; of validation, iterations or epochs
    after: int  # iteration of the last training line before this one; 0 if there is none
    epoch: int | None  # of training by epochs
    validates: bool  # whether it is of validation
    values: dict[str, float]  # by name


@dataclass(frozen=True)
class Run:
    """What a training, resumed any number of times, has logged."""

    label: str  # its name in the picture
    train: dict[str, dict[int, float]]  # by name, values by iteration, in order
    val: dict[str, dict[int, float]]  # a name that training logs too has `val/` before it
    epoch_length: float | None  # iterations an epoch; None where the log does not say

    @property
    def iterations(self) -> int:
        """The last iteration with a line."""
        series = [*self.train.values(), *self.val.values()]
        return max(iteration for values in series for iteration in values)

    @property
    def metrics(self) -> list[str]:
        """Names of what validation measured; COCO's -1 means that there are no such objects."""
        return [key for key, values in self.val.items() if set(values.values()) != {-1}]

    def curve(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns iterations and values of a key, both of shape (N,); empty if it has none."""
        values = self.train.get(key) or self.val.get(key) or {}
        return np.array(list(values), int), np.array(list(values.values()), float)


def analyze(
    logs: list[str | Path],
    keys: list[str] | None = None,
    labels: list[str] | None = None,
    out: str | Path | None = None,
    smooth: int = 1,
) -> tuple[Path, str]:
    """Draws the curves of one or more runs, and puts them into words.

    The arguments are those of `tools/analysis_tools/analyze_logs.py`, whose help says what they
    are. A log may be the folder of a single start, too; a run's label is its folder by default.

    Returns:
        The picture, and the summary of the runs.

    Raises:
        InputError: If there is no log, a line is damaged, or a key is in none of the logs.
    """
    if labels and len(labels) != len(logs):
        raise InputError(
            f'--labels must name {len(logs)} runs, one for each log, not {len(labels)}'
        )
    if smooth < 1:
        raise InputError(f'--smooth must be at least 1, not {smooth}')
    first = Path(logs[0])
    out = Path(out or (first if first.is_dir() else first.parent) / 'curves.png')
    if out.suffix not in ('.png', '.svg'):
        raise InputError(f'--out must end in .png or .svg, not {out}')
    labels = labels or default_labels(logs)
    runs = [read_run(log, label) for log, label in zip(logs, labels)]
    available = list(dict.fromkeys(key for run in runs for key in (*run.train, *run.val)))
    for key in keys or []:
        if key not in available:
            raise InputError(f'no {key!r} in {", ".join(map(str, logs))}: {", ".join(available)}')
    keys = list(dict.fromkeys(keys or default_keys(runs)))
    if not keys:
        raise InputError(f'no loss and no metric in {first}; --keys takes {", ".join(available)}')
    write_figure(draw_curves(runs, keys, smooth), out)
    return out, '\n'.join(summarize(run) for run in runs)


def default_labels(logs: list[str | Path]) -> list[str]:
    """Names runs by their folders, or by the paths given where those are alike."""
    paths = [Path(log).resolve() for log in logs]
    names = [path.parent.name if path.suffix == '.json' else path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(log) for log in logs]


def default_keys(runs: list[Run]) -> list[str]:
    """Returns the loss, where it was logged, and the main metrics of each run, or its first one."""
    keys = ['loss'] if any('loss' in run.train for run in runs) else []
    for run in runs:
        keys += [key for key in MAIN_METRICS if key in run.metrics] or run.metrics[:1]
    return keys


def find_logs(path: str | Path) -> list[Path]:
    """Finds the log files of a run, in the order they were written.

    Raises:
        InputError: If there is none.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f'log or work dir not found: {path}')
    if (path / LOG).is_file():
        return [path / LOG]
    # A folder a start, named by its time.
    found = sorted(path.glob(f'*/{LOG}'))
    if not found:
        raise InputError(f'no log in {path}: a work dir has <time of the start>/{LOG}')
    return found


def read_lines(path: Path) -> list[Line]:
    """Reads a log file.

    Raises:
        InputError: If a line is damaged, but for a last one that was not finished.
    """
    lines, after = [], 0
    texts = path.read_bytes().splitlines(keepends=True)
    for number, text in enumerate(texts, 1):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            if number == len(texts) and not text.endswith(b'\n'):
                break  # of a killed run
            raise InputError(f'{path}:{number}: not a line of JSON, as {LOG} has') from error
        step = content.get('step') if isinstance(content, dict) else None
        if not isinstance(step, int):
            raise InputError(f'{path}:{number}: no step, as every line of {LOG} has')
        values = {
            key: value
            for key, value in content.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        validates = 'iter' not in values
        after = after if validates else step
        lines.append(Line(step, after, content.get('epoch'), validates, values))
    return lines


def read_run(path: str | Path, label: str) -> Run:
    """Reads the logs of a run and joins them: what a later start logged anew counts.

    The path is that of a work dir, of the folder of one start, or of a log file.

    Raises:
        InputError: If there is no log, nothing in it, or a damaged line.
    """
    lines: list[Line] = []
    for log in find_logs(path):
        later = read_lines(log)
        start = min((line.step for line in later if not line.validates), default=math.inf)
        lines = [line for line in lines if line.after < start] + later
    epoch_length = find_epoch_length([line for line in lines if not line.validates])
    train: dict[str, dict[int, float]] = {}
    val: dict[str, dict[int, float]] = {}
    for line in sorted(lines, key=lambda line: line.validates):  # names of training come first
        for key, value in line.values.items():
            if not line.validates and key not in PLACE:
                train.setdefault(key, {})[line.step] = value
            elif line.validates and key not in (*PLACE, *COSTS):
                name = f'val/{key}' if key in train else key
                val.setdefault(name, {})[locate(line, epoch_length)] = value
    if not train and not val:
        raise InputError(f'nothing is logged yet: {path}')
    return Run(label, train, val, epoch_length)


def find_epoch_length(lines: list[Line]) -> float | None:
    """Returns the iterations an epoch: as many as between the first lines of two epochs."""
    starts: dict[int, int] = {}
    for line in lines:
        if line.epoch is not None:
            starts.setdefault(line.epoch, line.step)
    if len(starts) < 2:
        return None
    first, last = min(starts), max(starts)
    return (starts[last] - starts[first]) / (last - first)


def locate(line: Line, epoch_length: float | None) -> int:
    """Returns the iteration of a validation.

    Its step counts iterations or epochs, as the logger was set. Fewer than the iterations before it
    are epochs; without their length, the last line of training before it is near enough.
    """
    if line.step >= line.after:
        return line.step
    return max(line.after, round(line.step * epoch_length)) if epoch_length else line.after


def moving_mean(values: np.ndarray, count: int) -> np.ndarray:
    """Averages each value with those before it, `count` in all where there are as many; (N,)."""
    return np.array([values[max(0, i + 1 - count) : i + 1].mean() for i in range(len(values))])


def draw_curves(runs: list[Run], keys: list[str], smooth: int = 1) -> Figure:
    """Draws runs, each curve in a colour of its own, those of one scale in one panel.

    Of several runs, each has one colour in the first curves of all panels.
    """
    panels: dict[str, list[str]] = {}
    for key in keys:
        panels.setdefault(panel_of(key, runs), []).append(key)
    figure = Figure((9, 3.6 * len(panels)), dpi=120, layout='constrained')
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False).ravel()
    for axes, (panel, panel_keys) in zip(grid, panels.items()):
        for i, run in enumerate(runs):
            for j, key in enumerate(panel_keys):
                label = run.label if len(panel_keys) == 1 else key
                if len(runs) > 1 and len(panel_keys) > 1:
                    label = f'{run.label}: {key}'
                number = i + j * len(runs) if len(runs) > 1 else keys.index(key)
                color = COLORS[number % len(COLORS)]
                draw_curve(axes, run, key, smooth, label=label, color=color, style=j)
        axes.set_ylabel(panel_keys[0] if len(panel_keys) == 1 else panel)
        axes.grid(alpha=0.3)
        axes.legend(loc='upper left', bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)
    grid[-1].set_xlabel('iteration')
    return figure


def panel_of(key: str, runs: list[Run]) -> str:
    """Returns the panel of a key: losses, scores in percent, scores from 0 to 1, or its own."""
    if 'loss' in key:
        return 'loss'
    if LOWER_IS_BETTER.search(key) or not any(key in run.val for run in runs):
        return key
    highest = np.nanmax([0, *(value for run in runs for value in run.val.get(key, {}).values())])
    return 'validation, 0 to 1' if highest <= 1 else 'validation, percent'


def draw_curve(
    axes: Axes, run: Run, key: str, smooth: int, label: str, color: str, style: int
) -> None:
    """Draws one key of one run, unless it has none."""
    iterations, values = run.curve(key)
    if not len(values):
        return
    if key in run.val:
        marker = MARKERS[style % len(MARKERS)]
        axes.plot(iterations, values, color=color, marker=marker, markersize=5, label=label)
        return
    if smooth > 1:
        axes.plot(iterations, values, color=color, alpha=0.25, linewidth=1)
    line = LINES[style % len(LINES)]
    axes.plot(iterations, moving_mean(values, smooth), line, color=color, label=label)


def summarize(run: Run) -> str:
    """Puts a run into words: its length, speed, last loss, and the best value of each metric."""
    first = f'{run.label}: {run.iterations} iterations'
    if run.epoch_length:
        first += f' ({run.epoch_length:g} an epoch)'
    _, seconds = run.curve('time')
    if len(seconds):
        first += f', {seconds.mean():.3f} s each'
    _, losses = run.curve('loss')
    if len(losses):
        first += f', last loss {losses[-1]:.4g}'
    lines = [first]
    for key in run.metrics:
        iterations, values = run.curve(key)
        if np.isnan(values).all():
            lines.append(f'  {key}: nan throughout')
            continue
        lower = bool(LOWER_IS_BETTER.search(key))
        best = int(np.nanargmin(values) if lower else np.nanargmax(values))
        where = f'iteration {iterations[best]}'
        if run.epoch_length:
            where += f', epoch {iterations[best] / run.epoch_length:g}'
        lines.append(f'  {key}: {"lowest" if lower else "highest"} {values[best]:.4g} at {where}')
    return '\n'.join(lines)
