"""Training and testing, from the arguments of the tools to the files in the work dir."""

from itertools import chain
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import all_gather_object, is_main_process
from mmengine.logging import print_log

from scopevit import compat
from scopevit.checkpoint import is_exported
from scopevit.engine.accumulation import take_batches
from scopevit.engine.checks.data import check_files
from scopevit.engine.checks.weights import (
    check_model_weights,
    check_pretrained,
    read_weights,
)
from scopevit.engine.config import (
    disable_validation,
    dump_predictions,
    enable_amp,
    enable_auto_scale_lr,
    enable_drawing,
    enable_tta,
    load_config,
    require,
    set_loader_defaults,
)
from scopevit.engine.distributed import check_launcher, leave_process_group, setup
from scopevit.engine.environment import describe_run
from scopevit.engine.explain import input_errors
from scopevit.engine.libraries import find_library
from scopevit.engine.logs import announce, enable_log
from scopevit.engine.model import unwrap_model
from scopevit.engine.runner import CheckedRunner
from scopevit.engine.samples import describe_samples, left_out_in_training, left_out_of
from scopevit.engine.sharded import check_sharding
from scopevit.engine.start import check_same_start, keep_seed, read_start
from scopevit.engine.stopping import StopFirstHook, StopHook, stopping
from scopevit.engine.trust import check_pickles, reading_pickles
from scopevit.engine.watchdog import WatchdogHook
from scopevit.engine.writer import Writer
from scopevit.errors import InputError, Stopped
from scopevit.files import write_json


def train(
    config: str | Path,
    work_dir: str | None = None,
    resume: str | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    validate: bool = True,
    cfg_options: dict[str, Any] | None = None,
    launcher: str = 'none',
    pretrained: str | None = None,
    log: str | None = None,
    trust_pickles: bool = False,
    accumulate: int = 1,
    skip_bad_samples: int = 0,
    skip_nan: int = 0,
    watchdog: float | None = None,
    save_in_background: bool = False,
) -> None:
    """Trains the model of a config, by the library of its `default_scope`.

    Args:
        config: Config file.
        work_dir: Folder for checkpoints and logs; by default that of the config, or
            `work_dirs/<stem of the config>`.
        resume: Checkpoint to go on from, or 'auto' for the last one in the work dir, where there is
            one.
        amp: Whether to train in mixed precision.
        auto_scale_lr: Whether to scale the learning rate to the batch size.
        validate: Whether to validate while training.
        cfg_options: Values for the config by dotted key.
        launcher: 'none', or what started the processes: 'pytorch', 'slurm' or 'mpi'.
        pretrained: Checkpoint of a classifier or a bare backbone, for the backbone to start with;
            not read where `resume='auto'` finds a checkpoint.
        log: Where to log besides the work dir: 'tensorboard', 'wandb' or 'mlflow'.
        trust_pickles: Whether data sets may read pickles, which may run code.
        accumulate: Batches of a step, whose gradients are averaged.
        skip_bad_samples: How many samples that cannot be loaded each process may leave out; which,
            `skipped_samples.json` in the work dir tells in the end, and each checkpoint for the
            `metrics.json` of its test.
        skip_nan: How many steps may be left out whose loss is NaN or infinite.
        watchdog: Seconds without a step after which each process writes where it hangs.
        save_in_background: Whether checkpoints are written while the training goes on, which waits
            for a copy in memory.

    Raises:
        InputError: If something given is wrong; no file of an earlier run has changed then, unless
            it turns up only in the course of training: a sample that cannot be read, a loss that
            is no number, a disk that is full.
    """
    stop = StopHook()
    with stopping(stop), input_errors(str(config)), reading_pickles(trust_pickles):
        cfg = load_config(config, cfg_options, work_dir)
        if not trust_pickles:
            check_pickles(cfg, 'train', 'val')
        announce(f'{config}: loading {cfg.get("default_scope")}', launcher)
        library = find_library(cfg.get('default_scope'))
        require(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
        set_loader_defaults(cfg, library)
        set_training_options(cfg, amp, auto_scale_lr, validate, accumulate)
        check_sharding(cfg, launcher)
        if log:
            enable_log(cfg, library, log)
        runner = prepare_training(cfg, launcher, resume, pretrained)
        runner.skip_bad_samples, runner.finite_hook.allowed = skip_bad_samples, skip_nan
        runner.writer = Writer(save_in_background)
        if watchdog is not None:
            runner.register_hook(WatchdogHook(watchdog))
        run_training(runner, stop)
    leave_process_group()


def prepare_training(
    cfg: Config, launcher: str, resume: str | None, pretrained: str | None
) -> CheckedRunner:
    """Builds the Runner of a training, with data, weights and checkpoint checked; see `train`."""
    # Imports this package in turn.
    from scopevit.preflight.quick import check_quickly, log_findings

    checkpoint, skipped = read_start(cfg, resume, pretrained)
    keep_seed(cfg, checkpoint)
    announce('checking the data', launcher)
    found = check_quickly(cfg, cfg.filename)
    runner = build_runner(cfg, launcher)
    log_findings(found, runner.logger)
    for problem in skipped:
        runner.logger.warning(f'going on from {cfg.load_from}, because {problem}')
    check_same_start(cfg.get('load_from'), checkpoint)
    model = unwrap_model(runner.model)
    check_pretrained(model)
    if checkpoint is not None:
        check_model_weights(model, checkpoint, cfg.load_from, only_backbone=not cfg.resume)
    runner.checkpoint = checkpoint
    return runner


def test(
    config: str | Path,
    checkpoint: str | Path,
    work_dir: str | None = None,
    out: str | None = None,
    show: bool = False,
    show_dir: str | None = None,
    tta: bool = False,
    cfg_options: dict[str, Any] | None = None,
    launcher: str = 'none',
    trust_pickles: bool = False,
) -> dict[str, float]:
    """Tests a checkpoint and writes `metrics.json` to the work dir.

    Args:
        config: Config file.
        checkpoint: Checkpoint file; its weights must be those of the model, no more and no less.
            Or an .onnx or .xml of `scopevit export`, which is the model then.
        work_dir: Folder for results, as in `train`.
        out: Pickle file for the predictions.
        show: Whether to show every prediction in a window.
        show_dir: Folder for an image of every prediction.
        tta: Whether to average over the augmentations of `tta_pipeline`, by default over images as
            they are and flipped.
        cfg_options: Values for the config by dotted key.
        launcher: As in `train`.
        trust_pickles: As in `train`.

    Returns:
        Metrics by name.

    Raises:
        InputError: If something given is wrong; an earlier `metrics.json` has not changed then.
    """
    cfg = load_config(config, cfg_options, work_dir)
    if not trust_pickles:
        check_pickles(cfg, 'test')
    announce(f'{config}: loading {cfg.get("default_scope")}', launcher)
    library = find_library(cfg.get('default_scope'))
    require(cfg, 'model', 'test_dataloader', 'test_cfg', 'test_evaluator')
    set_loader_defaults(cfg, library)
    if tta:
        check_no_export(checkpoint)
        enable_tta(cfg, library)
    if show or show_dir:
        enable_drawing(cfg, library, show, show_dir)
    loaded = read_tested(cfg, checkpoint, launcher)
    announce('checking the files of the data', launcher)
    check_files(cfg, 'test')
    if out:
        dump_predictions(cfg, library, out)
    with input_errors(str(config)), reading_pickles(trust_pickles):
        runner = build_runner(cfg, launcher)
        if loaded is not None:
            check_model_weights(unwrap_model(runner.model), loaded, checkpoint)
        left_out = left_out_in_training(loaded or {}, checkpoint)
        runner.checkpoint = loaded
        del loaded  # it is large, and of no more use once the runner has loaded it
        metrics = runner.test()
    if is_main_process():
        report = {'metrics': metrics, 'config': str(config), 'checkpoint': str(checkpoint)}
        report |= left_out | describe_run(library, unwrap_model(runner.model))
        write_json(Path(cfg.work_dir, 'metrics.json'), report)
    leave_process_group()
    return metrics


def run_training(runner: CheckedRunner, stop: StopHook) -> None:
    """Trains until the end or a signal.

    Raises:
        Stopped: If it was a signal; what was trained is in a checkpoint.
    """
    runner.register_hook(stop)
    runner.register_hook(StopFirstHook(stop))
    try:
        runner.train()
        report_left_out(runner)
    except Stopped:
        if stop.trains:  # all processes are here, then
            leave_process_group()
        raise
    finally:
        error = runner.writer.finish()
        if error is not None:
            runner.logger.error(str(error))
        for hook in runner.hooks:
            if isinstance(hook, WatchdogHook):
                hook.after_run()  # whatever has ended the training


def report_left_out(runner: CheckedRunner) -> None:
    """Writes which samples were left out, of all processes, if any was."""
    loader = runner.train_dataloader
    found: list[list[int]] = all_gather_object(left_out_of(loader))
    samples = describe_samples(loader, chain.from_iterable(found))
    if samples and is_main_process():
        path = Path(runner.work_dir, 'skipped_samples.json')
        write_json(path, samples)
        runner.logger.warning(f'left out {len(samples)} samples that cannot be loaded: {path}')


def check_no_export(path: str | Path) -> None:
    """Raises an InputError where an exported file is to predict with augmentations."""
    if is_exported(path):
        raise InputError(f'--tta: {path} has its test in it; give the checkpoint instead')


def read_tested(cfg: Config, path: str | Path, launcher: str) -> dict[str, Any] | None:
    """Reads the checkpoint to test, and puts into the config which it is.

    An exported file takes the place of the model there; then this returns None.

    Raises:
        InputError: If it cannot be read, or is an export of another task or for several processes.
    """
    cfg.load_from, cfg.resume = None, False
    if not is_exported(path):
        cfg.load_from = str(path)
        return read_weights(path)
    # Imported by those who have one alone: its runtimes are optional.
    from scopevit.export.exported import ExportedModel, check_task, read_description

    if launcher != 'none':
        raise InputError(f'--launcher {launcher}: {path} runs in one process')
    wanted = find_library(cfg.default_scope).task
    check_task(read_description(Path(path)), path, wanted, str(cfg.filename))
    cfg.model = dict(type=f'mmengine.{ExportedModel.__name__}', path=str(path))
    cfg.pop('data_preprocessor', None)  # it is in the file
    return None


def set_training_options(
    cfg: Config, amp: bool, auto_scale_lr: bool, validate: bool, accumulate: int
) -> None:
    """Puts into a config what the switches of `train` say."""
    if accumulate > 1:
        take_batches(cfg, accumulate)
    if amp:
        enable_amp(cfg)
    if auto_scale_lr:
        enable_auto_scale_lr(cfg)
    if not validate:
        disable_validation(cfg)


def build_runner(
    cfg: Config, launcher: str, kind: type[CheckedRunner] = CheckedRunner
) -> CheckedRunner:
    """Builds the Runner of a config, of some kind, in the process group of a launcher."""
    if 'runner_type' in cfg:
        raise InputError(f'{cfg.filename}: runner_type is not supported, remove it')
    check_launcher(launcher)
    cfg.launcher = launcher
    setup(cfg, launcher)
    runner: CheckedRunner = kind.from_cfg(cfg)
    print_log(f'compat: {", ".join(compat.acted) or "nothing to adapt"}', logger='current')
    return runner
