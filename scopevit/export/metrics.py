"""What a data set's metrics say of an export, beside what they say of its checkpoint."""

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scopevit.engine import test
from scopevit.errors import InputError
from scopevit.hub import config_path

# A tenth of a point: an object or a pixel at a threshold may fall to either side.
LIMIT = 1e-3
INT8_LIMIT = 1e-2  # of a fraction a point, which 8 bits may cost


def measure(config: str, checkpoint: Path, exported: Path) -> dict[str, Any]:
    """Tests a checkpoint and what was exported of it, and returns the metrics of both.

    Args:
        config: Config file with the data, or the name of one that comes along.
        checkpoint: The checkpoint.
        exported: The file, its description beside it.
    """
    found: dict[str, Any] = {'config': str(config)}
    # One folder until the end: a visualizer with a name writes where its first run did.
    with tempfile.TemporaryDirectory() as folder:
        for name, path in (('checkpoint', checkpoint), ('file', exported)):
            work_dir = str(Path(folder, name))
            quiet = {'log_level': 'WARNING'}
            found[name] = test(config_path(config), path, work_dir=work_dir, cfg_options=quiet)
    return found


def check(found: Mapping[str, Any], limit: float = LIMIT) -> None:
    """Raises an InputError where the metrics of a checkpoint and its export differ by too much.

    Args:
        found: What `measure` returns.
        limit: For fractions; for metrics in percent, a hundred times as much.
    """
    for name, value in found['checkpoint'].items():
        other = found['file'].get(name, math.nan)
        a, b = (np.atleast_1d(np.asarray(x, float)) for x in (value, other))
        # Of a class that does not occur, it is NaN.
        unit = 100 if np.nanmax(np.abs([*a, *b]), initial=0) > 1 else 1
        if not np.allclose(a, b, rtol=0, atol=limit * unit, equal_nan=True):
            raise InputError(
                f'--data: {name} is {shown(value)} of the checkpoint, {shown(other)} of the file'
            )


def shown(value: Any) -> str:
    """Returns a metric for people."""
    return f'{value:.4f}' if isinstance(value, float) else str(value)
