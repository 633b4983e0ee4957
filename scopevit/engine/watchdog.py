"""A watch over a training that hangs: where each process was."""

import faulthandler
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner


class WatchdogHook(Hook):
    """Writes where a process is, whenever no step, of training or validation, has ended for long.

    That is a file for each process beside its log, `hang_of_process_<rank>.txt`; Python's
    faulthandler writes the stacks of all threads, whatever they wait for. Each step counts from
    the end of the one before, so that loading and checkpoints are watched as well.

    Args:
        seconds: Without a step, until it does.
    """

    priority = 'LOWEST'

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.file: TextIOWrapper | None = None

    def before_train(self, runner: Runner) -> None:
        """Starts the watch."""
        path = Path(runner.log_dir, f'hang_of_process_{get_rank()}.txt')
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open('w')
        self.watch()

    def watch(self, *args: Any, **kwargs: Any) -> None:
        """Starts to count anew."""
        if self.file is not None:
            faulthandler.dump_traceback_later(self.seconds, repeat=True, file=self.file)

    after_train_iter = after_val_iter = watch

    def after_run(self, runner: Runner | None = None) -> None:
        """Ends the watch."""
        if self.file is None:
            return
        faulthandler.cancel_dump_traceback_later()
        self.file.close()
        path, self.file = Path(self.file.name), None
        if not path.stat().st_size:
            path.unlink()
