"""What a data set's metrics say of an export, beside what they say of its checkpoint."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scopevit.engine import test
from scopevit.hub import config_path

# A tenth of a point: an object or a pixel at a threshold may fall to either side.
LIMIT = 1e-3
INT8_LIMIT = 1e-2  # of a fraction a point, which 8 bits may cost
LOWER_IS_BETTER = ('NME', 'EPE', 'MPJPE', 'loss')  # in the names of metrics


@contextmanager
def measuring(config: str) -> Iterator[Callable[[Path], dict[str, float]]]:
    """Gives a function that tests a checkpoint or an export, its description beside it.

    `config`: Config file with the data, or the name of one that comes along.
    """
    # One folder until the end: a visualizer with a name writes where its first run did.
    with tempfile.TemporaryDirectory() as folder:

        def measure(path: Path) -> dict[str, float]:
            quiet = {'log_level': 'WARNING'}
            return test(config_path(config), path, work_dir=folder, cfg_options=quiet)

        yield measure


def problem(found: Mapping[str, Any], int8: bool) -> str | None:
    """Returns where the metrics of a checkpoint and its export differ by too much, if they do.

    Args:
        found: Metrics under `checkpoint` and `file`.
        int8: Whether the export has 8 bits, and may be better, or worse by a point.
    """
    limit = INT8_LIMIT if int8 else LIMIT
    for name, value in found['checkpoint'].items():
        other = found['file'].get(name, math.nan)
        loss = losses(name, value, other)
        if not np.all((loss if int8 else np.abs(loss)) <= limit):  # NaN is not
            return f'{name} is {shown(value)} of the checkpoint, {shown(other)} of the file'
    return None


def losses(name: str, expected: Any, found: Any) -> np.ndarray:
    """Returns how far a metric is worse, as a fraction, of each class if it has them.

    It is NaN where just one of the two is, and 0 where both are: of a class that does not occur.
    """
    a, b = (np.atleast_1d(np.asarray(x, float)) for x in (expected, found))
    unit = 100 if np.nanmax(np.abs([*a, *b]), initial=0) > 1 else 1
    difference = np.where(np.isnan(a) & np.isnan(b), 0, a - b) / unit
    is_lower_better = any(part in name for part in LOWER_IS_BETTER)
    return -difference if is_lower_better else difference


def largest_loss(found: Mapping[str, Any]) -> tuple[str, float]:
    """Returns the metric of a file that is worst beside its checkpoint's, and by how many points.

    Args:
        found: Metrics under `checkpoint` and `file`, which both have all of them.
    """
    points = {
        name: 100 * float(losses(name, value, found['file'][name]).max())
        for name, value in found['checkpoint'].items()
    }
    worst = max(points, key=points.__getitem__)
    return worst, points[worst]


def shown(value: Any) -> str:
    """Returns a metric for people."""
    return f'{value:.4f}' if isinstance(value, float) else str(value)
