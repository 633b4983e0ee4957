"""The launchers, as programs."""

import os
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parents[1] / 'tools'


def launch(
    script: str, *arguments: object, cwd: Path, **variables: str
) -> subprocess.CompletedProcess:
    """Runs a launcher somewhere, with this Python and without GPUs."""
    env = {**os.environ, 'PYTHON': sys.executable, 'CUDA_VISIBLE_DEVICES': '', **variables}
    for name in ('PYTHONPATH', 'NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT'):
        if name not in variables:
            env.pop(name, None)
    return subprocess.run(
        [TOOLS / script, *map(str, arguments)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
    )
