"""Trains one config after the other in the processes of one launch, which takes long to begin.

    python -m torch.distributed.run ... tests/train_many.py RUNS

RUNS is a JSON list of arguments of `scopevit.engine.train`. A training that is stopped is no error.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch.distributed as dist
from mmengine.utils import ManagerMixin

from scopevit.engine import distributed, run
from scopevit.errors import Stopped

ROOT = Path(__file__).parents[1]


def train_many(runs: list[dict], processes: int, cwd: Path) -> None:
    """Trains in so many processes on the CPU; for tests, which give the arguments."""
    env = dict(os.environ, CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')
    paths = [str(ROOT), str(ROOT / 'tests'), env.get('PYTHONPATH', '')]
    launcher = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    result = subprocess.run(
        [*launcher, '--nproc-per-node', str(processes), __file__, json.dumps(runs, default=str)],
        env=env | {'PYTHONPATH': os.pathsep.join(paths)},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stderr[-3000:]


def subclasses(cls: type) -> list[type]:
    return [cls, *(d for child in cls.__subclasses__() for d in subclasses(child))]


def main() -> None:
    dist.init_process_group('gloo')
    run.leave_process_group = dist.barrier  # the next one needs it
    for arguments in json.loads(sys.argv[1]):
        # mmengine keeps loggers by the second in which their run began.
        for manager in subclasses(ManagerMixin):
            manager._instance_dict.clear()
        with suppress(Stopped):
            run.train(launcher='pytorch', **arguments)
    distributed.leave_process_group()


if __name__ == '__main__':
    main()
