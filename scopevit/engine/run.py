"""Training and testing, from the arguments of the tools to the files in the work dir."""

import datetime
import importlib.metadata
import importlib.util
import os
import platform
from pathlib import Path

import cv2
import mmcv
import mmengine
import numpy as np
import torch
import torchvision
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from torch import nn

from scopevit.compat import distributed
from scopevit.engine.config import (
    disable_validation,
    dump_predictions,
    enable_amp,
    enable_auto_scale_lr,
    enable_drawing,
    enable_tta,
    load_config,
)
from scopevit.engine.data import check_dataset_files, check_evaluator_files
from scopevit.engine.explain import input_errors
from scopevit.engine.libraries import Library, find_library
from scopevit.engine.runner import CheckedRunner, unwrap_model
from scopevit.engine.weights import (
    check_model_weights,
    check_pretrained,
    check_resumable,
    find_last_checkpoint,
    read_state_dict,
)
from scopevit.errors import InputError
from scopevit.files import write_json
from scopevit.version import __version__

# What each launcher sets in every process it starts.
LAUNCHER_VARIABLES = {
    'pytorch': 'RANK',
    'slurm': 'SLURM_PROCID',
    'mpi': 'OMPI_COMM_WORLD_LOCAL_RANK',
}


def train(
    config: str | Path,
    work_dir: str | None = None,
    resume: str | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    validate: bool = True,
    cfg_options: dict | None = None,
    launcher: str = 'none',
) -> None:
    """Trains the model of a config, by the library of its `default_scope`.

    Args:
        config: Config file.
        work_dir: Folder for checkpoints and logs; by default that of the config, or
            `work_dirs/<stem of the config>`.
        resume: Checkpoint to go on from, or 'auto' for the last one in the work dir,
            where there is one.
        amp: Whether to train in mixed precision.
        auto_scale_lr: Whether to scale the learning rate to the batch size.
        validate: Whether to validate while training.
        cfg_options: Values for the config by dotted key.
        launcher: 'none', or what started the processes: 'pytorch', 'slurm' or 'mpi'.

    Raises:
        InputError: If something given is wrong; no file of an earlier run has changed then, unless
            a sample that cannot be read turns up only in the course of training.
    """
    cfg = load_config(config, cfg_options, work_dir)
    find_library(cfg.get('default_scope'))
    require(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    if amp:
        enable_amp(cfg)
    if auto_scale_lr:
        enable_auto_scale_lr(cfg)
    if not validate:
        disable_validation(cfg)
    if resume is None and cfg.get('resume') and not cfg.get('load_from'):
        resume = 'auto'
    if resume is not None:
        cfg.load_from = find_last_checkpoint(cfg.work_dir) if resume == 'auto' else resume
        cfg.load_from = cfg.load_from and str(cfg.load_from)
        cfg.resume = cfg.load_from is not None
    if cfg.get('load_from'):
        (check_resumable if cfg.get('resume') else read_state_dict)(cfg.load_from)
    check_files(cfg, 'train', 'val')
    with input_errors(str(config)):
        runner = build_runner(cfg, launcher)
        model = unwrap_model(runner.model)
        check_pretrained(model)
        if cfg.get('load_from'):
            check_model_weights(model, cfg.load_from, only_backbone=not cfg.get('resume'))
        runner.train()
    leave_process_group()


def test(
    config: str | Path,
    checkpoint: str | Path,
    work_dir: str | None = None,
    out: str | None = None,
    show: bool = False,
    show_dir: str | None = None,
    tta: bool = False,
    cfg_options: dict | None = None,
    launcher: str = 'none',
) -> dict:
    """Tests a checkpoint and writes `metrics.json` to the work dir.

    Args:
        config: Config file.
        checkpoint: Checkpoint file; its weights must be those of the model, no more
            and no less.
        work_dir: Folder for results, as in `train`.
        out: Pickle file for the predictions.
        show: Whether to show every prediction in a window.
        show_dir: Folder for an image of every prediction.
        tta: Whether to average over the augmentations of `tta_pipeline`, by default over
            images as they are and flipped.
        cfg_options: Values for the config by dotted key.
        launcher: As in `train`.

    Returns:
        Metrics by name.

    Raises:
        InputError: If something given is wrong; an earlier `metrics.json` has not changed then.
    """
    cfg = load_config(config, cfg_options, work_dir)
    library = find_library(cfg.get('default_scope'))
    require(cfg, 'model', 'test_dataloader', 'test_cfg', 'test_evaluator')
    cfg.load_from, cfg.resume = str(checkpoint), False
    if tta:
        enable_tta(cfg, library)
    if show or show_dir:
        enable_drawing(cfg, library, show, show_dir)
    read_state_dict(checkpoint)
    check_files(cfg, 'test')
    if out:
        dump_predictions(cfg, library, out)
    with input_errors(str(config)):
        runner = build_runner(cfg, launcher)
        check_model_weights(unwrap_model(runner.model), checkpoint)
        metrics = runner.test()
    if is_main_process():
        report = {
            'metrics': metrics,
            'config': str(config),
            'checkpoint': str(checkpoint),
            'parameters': count_parameters(unwrap_model(runner.model)),
            'versions': find_versions(library),
            'device': device_name(),
            'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        }
        write_json(Path(cfg.work_dir, 'metrics.json'), report)
    leave_process_group()
    return metrics


def require(cfg: Config, *keys: str) -> None:
    """Raises an InputError unless a config has all of some keys."""
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise InputError(f'{cfg.filename} has no {", ".join(missing)}')


def check_files(cfg: Config, *modes: str) -> None:
    """Checks the files of the data sets and metrics of 'train', 'val' or 'test'."""
    for mode in modes:
        if cfg.get(f'{mode}_dataloader'):
            key = f'{mode}_dataloader.dataset'
            dataset = cfg[f'{mode}_dataloader'].get('dataset', {})
            check_dataset_files(dataset, key, cfg.default_scope)
        if cfg.get(f'{mode}_evaluator'):
            check_evaluator_files(cfg[f'{mode}_evaluator'], f'{mode}_evaluator')


def build_runner(cfg: Config, launcher: str) -> CheckedRunner:
    """Builds the Runner of a config, in the process group of a launcher."""
    if 'runner_type' in cfg:
        raise InputError(f'{cfg.filename}: runner_type is not supported, remove it')
    variable = LAUNCHER_VARIABLES.get(launcher)
    if variable and variable not in os.environ:
        raise InputError(f'--launcher {launcher}: the environment has no {variable}')
    if launcher == 'pytorch':
        check_gpus(int(os.environ.get('LOCAL_RANK', 0)))
    cfg.launcher = launcher
    try:
        distributed.setup(cfg, launcher)
    except ValueError as error:
        raise InputError(f'--launcher {launcher}: {error}') from error
    return CheckedRunner.from_cfg(cfg)


def check_gpus(local_rank: int) -> None:
    """Raises an InputError where there are GPUs, but none for this process of the machine."""
    count = torch.cuda.device_count()
    if get_device() == 'cuda' and local_rank >= count:
        raise InputError(
            f'process {local_rank + 1} of this machine has no GPU: start as many as there are, '
            f'{count}, or set CUDA_VISIBLE_DEVICES= to run on the CPU'
        )


def leave_process_group() -> None:
    """Ends a distributed run: a process that exits before the others makes gloo abort them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        distributed.wait_for_gloo()


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Returns the number of parameters of a model and, where it has one, of its backbone."""
    parts = {'total': model}
    if hasattr(model, 'backbone'):
        parts['backbone'] = model.backbone
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def find_versions(library: Library) -> dict[str, str]:
    """Returns the versions of what a result depends on."""
    versions = {
        'python': platform.python_version(),
        'scopevit': __version__,
        'torch': torch.__version__,
        'torchvision': torchvision.__version__,
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'mmengine': mmengine.__version__,
        'mmcv': mmcv.__version__,
        library.name: importlib.import_module(library.name).__version__,
    }
    # Classification does without it.
    if importlib.util.find_spec('pycocotools'):
        versions['pycocotools'] = importlib.metadata.version('pycocotools')
    return versions


def device_name() -> str:
    """Returns 'cpu', or the name of the GPU."""
    device = get_device()
    return torch.cuda.get_device_name() if device == 'cuda' else device
