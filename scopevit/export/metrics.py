"""What a data set's metrics say of an export, beside what they say of its checkpoint."""

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    for name, path in (('checkpoint', checkpoint), ('file', exported)):
        with tempfile.TemporaryDirectory() as work_dir:
            found[name] = test(config_path(config), path, work_dir=work_dir)
    return found


def check(found: Mapping[str, Any], limit: float = LIMIT) -> None:
    """Raises an InputError where the metrics of a checkpoint and its export differ by too much.

    Args:
        found: What `measure` returns.
        limit: For fractions; for metrics in percent, a hundred times as much.
    """
    unit = 100 if any(value > 1 for value in found['checkpoint'].values()) else 1
    for name, value in found['checkpoint'].items():
        other = found['file'].get(name, math.nan)
        is_near = abs(value - other) <= limit * unit
        if not (is_near or math.isnan(value)):  # that of a class that does not occur is
            raise InputError(
                f'--data: {name} of the checkpoint is {value:.4f}, and {other:.4f} of the file'
            )
