"""How often a run logs, and where to besides its work dir."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import LoggerHook
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner

from scopevit.engine.distributed import LAUNCHER_VARIABLES
from scopevit.engine.libraries import Library
from scopevit.errors import InputError

# Of mmengine; the package that each needs has the name of its choice.
VIS_BACKENDS = {
    'tensorboard': 'TensorboardVisBackend',
    'wandb': 'WandbVisBackend',
    'mlflow': 'MLflowVisBackend',
}
LINES = 10


def effective_interval(interval: int, iterations: int) -> int:
    """Returns after how many iterations to log, where a pass over the data has some.

    An interval up to the length of the pass is what somebody chose, and stays. A longer one never
    comes round, it is a default made for larger data: then a tenth of the pass.
    """
    return interval if interval <= iterations else max(1, iterations // LINES)


def pass_length(loop: BaseLoop) -> int:
    """Returns the iterations of an epoch, or of a whole training that counts none."""
    if isinstance(loop, IterBasedTrainLoop):
        return int(loop.max_iters)
    return len(loop.dataloader)


class ShortPassLoggerHook(LoggerHook):
    """LoggerHook that logs in passes shorter than its interval, too: see `effective_interval`.

    mmengine logs nothing between start and end of these, as if the run hung.
    """

    interval: int

    def before_train(self, runner: Runner) -> None:
        """Says when to expect a line; the first batch may take long."""
        length = pass_length(runner.train_loop)
        unit = 'in all' if isinstance(runner.train_loop, IterBasedTrainLoop) else 'an epoch'
        lines = f'a line every {effective_interval(self.interval, length)}'
        runner.logger.info(f'{length} iterations {unit}, {lines}; loading the first batch')

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        with self._interval_within(runner.train_loop):
            super().after_train_iter(runner, *args, **kwargs)

    def after_val_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        with self._interval_within(runner.val_loop):
            super().after_val_iter(runner, *args, **kwargs)

    def after_test_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        with self._interval_within(runner.test_loop):
            super().after_test_iter(runner, *args, **kwargs)

    @contextmanager
    def _interval_within(self, loop: BaseLoop) -> Iterator[None]:
        """Sets the interval for one call: training and validation differ in length."""
        interval = self.interval
        self.interval = effective_interval(interval, pass_length(loop))
        try:
            yield
        finally:
            self.interval = interval


def enable_log(cfg: Config, library: Library, name: str) -> None:
    """Lets a training log to TensorBoard, Weights & Biases or MLflow besides its work dir.

    Raises:
        InputError: If the package of that name is not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise InputError(f'--log {name} needs the package {name}: pip install {name}')
    visualizer = dict(type=library.visualizer) | (cfg.get('visualizer') or {})
    backends = list(visualizer.get('vis_backends') or [dict(type='LocalVisBackend')])
    if VIS_BACKENDS[name] not in [backend['type'] for backend in backends]:
        settings = mlflow_settings(cfg) if name == 'mlflow' else {}
        backends.append(dict(type=VIS_BACKENDS[name], **settings))
    cfg.visualizer = dict(visualizer, vis_backends=backends)


def mlflow_settings(cfg: Config) -> dict[str, str]:
    """Returns where MLflow logs: to its server, or to a database and a folder in the work dir.

    mmengine's default is a folder of files, which MLflow 3 refuses, whatever MLFLOW_TRACKING_URI.
    """
    name = Path(cfg.filename).stem
    if server := os.environ.get('MLFLOW_TRACKING_URI'):
        return dict(tracking_uri=server, exp_name=name)
    work_dir = Path(cfg.work_dir).absolute()
    database = f'sqlite:///{work_dir / "mlflow.db"}'
    return dict(tracking_uri=database, exp_name=name, artifact_location=str(work_dir / 'mlflow'))


def announce(text: str, launcher: str) -> None:
    """Prints a line, in the first process only, before there is a logger."""
    if os.environ.get(LAUNCHER_VARIABLES.get(launcher, ''), '0') == '0':
        print(text, flush=True)
