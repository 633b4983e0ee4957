"""Trainings that are told to stop: they save first, all processes at the same step.

Clusters send SIGTERM or SIGUSR1 some time before they end a job, a terminal SIGINT.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from scopevit.engine.distributed import all_reduced
from scopevit.engine.hooks import CarefulCheckpointHook
from scopevit.errors import Stopped
from scopevit.launched import AGENT

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
ONE_KEY = 1.0  # seconds within which SIGINT is the same: torchrun passes on what all have got


class StopHook(Hook):
    """Saves and ends a training after the step in which a signal came to any of its processes.

    In a validation it ends at once; what was trained is saved unless a checkpoint has it. Before
    the first step there is nothing to save. A second SIGINT stops in the middle of a step.
    """

    priority = 'LOWEST'  # after the checkpoints

    def __init__(self) -> None:
        self.signal = 0
        self.pressed = -float('inf')
        self.trains = False
        self.parent = os.getppid() if AGENT in os.environ else None
        self.checked = 0  # batches of a validation that all processes have

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        now = time.monotonic()
        if self.signal and number == signal.SIGINT and now - self.pressed > ONE_KEY:
            raise KeyboardInterrupt
        self.pressed = now
        self.signal = number
        if not self.trains:
            raise Stopped(number, 'before the first step')
        again = ', again to stop without it' if number == signal.SIGINT else ''
        # `print` may be what was interrupted.
        line = f'{signal.Signals(number).name}: saves after this step{again}\n'
        os.write(sys.__stderr__.fileno(), line.encode())  # type: ignore[union-attr]

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Stops if a process was told to."""
        number = self.agreed(runner)
        if number:
            meta = dict(epoch=runner.epoch, iter=runner.iter + 1)
            raise Stopped(number, f'after step {meta["iter"]}, {self.save(runner, meta)}')

    def before_val_epoch(self, runner: Runner) -> None:
        """Finds out how many batches all processes will have."""
        count = torch.tensor(len(runner.val_dataloader))
        self.checked = all_reduced(count, 'min')

    def after_val_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Stops if a process was told to."""
        if not self.trains or batch_idx >= self.checked:
            return
        number = self.agreed(runner)
        if number:
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            swap_back(runner)
            saved = self.save(runner, meta)
            raise Stopped(number, f'in the validation after step {meta["iter"]}, {saved}')

    def agreed(self, runner: Runner) -> int:
        """Returns the signal that came to any process, 0 if none did."""
        if self.parent is not None and os.getppid() != self.parent:
            self.signal = signal.SIGTERM  # nobody is left to start or end the processes
        return all_reduced(torch.tensor(self.signal), 'max')

    def save(self, runner: Runner, meta: dict[str, int]) -> str:
        """Saves, unless it has been; returns what to tell of it."""
        for hook in runner.hooks:
            if isinstance(hook, CarefulCheckpointHook):
                return hook.save_stopped(runner, meta)
        return 'saved nothing: default_hooks.checkpoint of the config is None'


class StopFirstHook(Hook):
    """What a `StopHook` is told before the other hooks do something."""

    priority = 'VERY_HIGH'

    def __init__(self, stop: StopHook) -> None:
        self.stop = stop

    def before_train(self, runner: Runner) -> None:
        """From here on, there is something to save; a validation may come first."""
        self.stop.trains = True

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """No more batches count: mmpretrain's EMAHook may validate once more, with its weights."""
        self.stop.checked = 0


def swap_back(runner: Runner) -> None:
    """Gives a model that is validated with averaged weights its own back."""
    for hook in runner.hooks:
        # mmpretrain's hook may validate with them or not.
        if isinstance(hook, EMAHook) and getattr(hook, 'evaluate_on_ema', True):
            hook._swap_ema_parameters()


@contextmanager
def stopping(hook: StopHook) -> Iterator[None]:
    """Lets signals go to a hook."""
    try:
        before = {number: signal.signal(number, hook.receive) for number in SIGNALS}
    except ValueError:  # not in the main thread, which gets all signals
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
