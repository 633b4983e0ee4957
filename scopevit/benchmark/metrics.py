"""Metrics that `tools/test.py` wrote, of several runs of a recipe as mean and deviation."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from scopevit.errors import InputError

# What tables say of a recipe without metrics.
NOT_TRAINED = 'not trained yet'
# The main metrics of the four libraries: what to call each, and its factor to per cent.
MAIN_METRICS = {
    'accuracy/top1': ('top-1', 1.0),
    'coco/bbox_mAP': ('box AP', 100.0),
    'coco/segm_mAP': ('mask AP', 100.0),
    'coco_panoptic/PQ': ('PQ', 1.0),
    'mIoU': ('mIoU', 1.0),
    'coco/AP': ('AP', 100.0),
}


@dataclass(frozen=True)
class Score:
    """A metric of a recipe."""

    name: str  # a short one, of `MAIN_METRICS`
    mean: float  # over the runs, in per cent
    deviation: float | None  # the standard one, of two runs or more
    runs: int  # how many

    @property
    def figures(self) -> str:
        """The mean, with the deviation if there is one."""
        return f'{self.mean:.1f}' + ('' if self.deviation is None else f' ± {self.deviation:.1f}')

    @property
    def spread(self) -> tuple[float, float] | None:
        """The ends of the deviation, if there is one."""
        if self.deviation is None:
            return None
        return self.mean - self.deviation, self.mean + self.deviation

    def __str__(self) -> str:
        runs = '' if self.deviation is None else f' ({self.runs} runs)'
        return f'{self.name} {self.figures}{runs}'


def find_scores(work_dirs: str | Path) -> dict[str, list[Score]]:
    """Reads every `metrics.json` below a folder.

    Returns:
        Main metrics by the stem of the config that was tested.

    Raises:
        InputError: If the folder is missing or a file is not one of `tools/test.py`.
    """
    folder = Path(work_dirs)
    if not folder.is_dir():
        raise InputError(f'no folder of work dirs: {folder}')
    runs: dict[str, list[dict]] = {}
    for path in sorted(folder.rglob('metrics.json')):
        config, metrics = read_metrics(path)
        runs.setdefault(Path(config).stem, []).append(metrics)
    return {stem: summarize(metrics) for stem, metrics in runs.items()}


def read_metrics(path: Path) -> tuple[str, dict]:
    """Returns the config and the metrics of a `metrics.json`."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        config, metrics = content['config'], content['metrics']
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path} is not a metrics.json of tools/test.py') from error
    if not (isinstance(config, str) and isinstance(metrics, dict)):
        raise InputError(f'{path}: config must be a path and metrics must have names')
    for name in MAIN_METRICS:
        if not isinstance(metrics.get(name), (int, float, type(None))):
            raise InputError(f'{path}: {name} must be a number or null, not {metrics[name]!r}')
    return config, metrics


def summarize(runs: list[dict]) -> list[Score]:
    """Returns mean and deviation of the main metrics of some runs, without values that are null."""
    scores = []
    for key, (name, factor) in MAIN_METRICS.items():
        values = [factor * run[key] for run in runs if run.get(key) is not None]
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else None
            scores.append(Score(name, statistics.mean(values), deviation, len(values)))
    return scores
