"""Whether the model of a config trains on its data, and what that takes."""

import copy
import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from mmengine.config import Config
from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import BaseLoop

from scopevit.engine.checks.weights import check_model_weights, check_pretrained
from scopevit.engine.config import require, set_loader_defaults
from scopevit.engine.libraries import Library
from scopevit.engine.model import unwrap_model
from scopevit.engine.run import build_runner
from scopevit.engine.runner import CheckedRunner, Loop
from scopevit.engine.start import read_start
from scopevit.preflight.overfit import check_overfit
from scopevit.preflight.report import ModelReport, caught
from scopevit.preflight.steps import check_steps
from scopevit.preflight.validation import check_validation

# What metrics write predictions to, where a config says so.
METRIC_FILES = ('outfile_prefix', 'output_dir')


class TrialRunner(CheckedRunner):
    """Makes everything ready for a training, and then runs a trial in its place.

    Attributes:
        trial: What to run.
    """

    trial: Callable[[], None]

    def build_train_loop(self, loop: Loop) -> BaseLoop:
        built = super().build_train_loop(loop)
        built.run = self.trial
        return built

    def _build_checked(self, *args: Any) -> BaseLoop:
        with redirect_stdout(io.StringIO()):  # pycocotools tells its steps
            return super()._build_checked(*args)


def check_model(cfg: Config, library: Library, say: Callable[[str], object]) -> ModelReport:
    """Builds a config's model and loaders as a training does, and tries them.

    Takes a few steps, validates a batch, and looks whether the loss falls on eight images. Nothing
    is written; what fails is a finding.

    Args:
        cfg: Config of a training, which does not change.
        library: That of its `default_scope`.
        say: Is given a line before everything that takes long.
    """
    report = ModelReport()
    with TemporaryDirectory(prefix='scopevit-check-') as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the libraries', of versions and defaults
        cfg = trial_config(cfg, library, folder)
        with caught(report, 'building the model and the loaders', 'model', cfg):
            require(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
            say('building the model and the loaders')
            checkpoint, _ = read_start(cfg, None, None)
            runner = cast(TrialRunner, build_runner(cfg, 'none', TrialRunner))
            model = unwrap_model(runner.model)
            check_pretrained(model)
            if checkpoint is not None:
                check_model_weights(model, checkpoint, cfg.load_from, only_backbone=True)
            runner.checkpoint = checkpoint
            runner.trial = lambda: try_out(runner, report, say)
            runner.train()
    return report


def try_out(runner: TrialRunner, report: ModelReport, say: Callable[[str], object]) -> None:
    """Takes steps, validates and overfits; no further than to the first of them that fails."""
    for hook in runner.hooks:
        if isinstance(hook, RuntimeInfoHook):  # YOLOX's images ask it for the iteration
            hook.before_train(runner)
    for check, doing, where in (
        (check_steps, 'a training step', 'train_dataloader'),
        (check_validation, 'a validation step', 'val_dataloader'),
        (check_overfit, 'overfitting', 'train_dataloader'),
    ):
        with caught(report, doing, where, runner.cfg):
            check(runner, report, say)
        if report.failed:
            return


def trial_config(cfg: Config, library: Library, folder: str) -> Config:
    """Returns a config that writes to a folder alone, and is the same every time it runs."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = folder
    cfg.experiment_name = Path(folder).name  # mmengine keeps loggers by name
    cfg.log_level = 'CRITICAL'  # the report says what is wrong
    cfg.resume = False
    cfg.compile = False  # takes minutes
    # Others than files in the folder may be servers.
    cfg.visualizer = dict(type=library.visualizer, vis_backends=[])
    cfg.randomness = dict(cfg.get('randomness') or {})
    if cfg.randomness.get('seed') is None:
        cfg.randomness.seed = 0
    set_loader_defaults(cfg, library)
    for key in ('train_dataloader', 'val_dataloader'):
        if cfg.get(key):
            cfg[key].persistent_workers = False  # they would take time from the steps
    metrics = cfg.get('val_evaluator') or []
    for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
        for name in METRIC_FILES:
            if metric.get(name):
                metric[name] = str(Path(folder, 'predictions'))
    return cfg
