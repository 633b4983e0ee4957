"""From a config file and the command line to the config of a run."""

import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner
from yaml import YAMLError

from scopevit.checkpoint import BACKBONE_OF
from scopevit.engine.amp import CPUAmpOptimWrapper
from scopevit.engine.checks.kinds import check_kinds
from scopevit.engine.libraries import Library, missing_module
from scopevit.engine.trust import check_types
from scopevit.engine.walk import leaf_configs, type_name
from scopevit.errors import InputError


def load_config(
    path: str | Path, options: dict[str, Any] | None = None, work_dir: str | None = None
) -> Config:
    """Reads a config file and changes what `--cfg-options` and `--work-dir` say.

    Raises:
        InputError: If the file is missing, has errors, or an option fits nowhere, or a part is
            neither the dict nor the list that it must be.
    """
    path = Path(path)
    cfg = read_config(path)
    merge_options(cfg, options or {})
    check_kinds(cfg, str(path))
    if work_dir is not None or cfg.get('work_dir') is None:
        cfg.work_dir = work_dir or f'work_dirs/{path.stem}'
    return cfg


def read_config(path: Path) -> Config:
    """Reads a config file and those it inherits from.

    Raises:
        InputError: If one of them is missing or has an error; the message names it and the line.
    """
    if not path.is_file():
        raise InputError(f'config not found: {path}')
    try:
        return Config.fromfile(path)
    except SyntaxError as error:
        raise InputError(f'{failed_file(error) or path}:{error.lineno}: {error.msg}') from error
    except ModuleNotFoundError as error:
        raise missing_module(error) from error
    except ImportError as error:
        raise InputError(f'{path}: custom_imports: {root_cause(error)}') from error
    # Whatever the code in a config may raise, and mmengine about what it inherits.
    except (ArithmeticError, AttributeError, LookupError, NameError, OSError, RuntimeError,
            TypeError, ValueError, YAMLError) as error:  # fmt: skip
        line = failed_line(error)
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise InputError(f'{line or path}: {type(error).__name__}: {message}') from error


def failed_file(error: SyntaxError) -> str | None:
    """Returns the config that mmengine was parsing, perhaps one that another inherits from."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [frame.f_locals['filename'] for frame in frames if 'filename' in frame.f_locals]
    return next((str(Path(name)) for name in reversed(names) if str(name).endswith('.py')), None)


def failed_line(error: Exception) -> str | None:
    """Returns file and line of a config whose code raised an error."""
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    # mmengine compiles a config under its own name, which no imported module has.
    if frame.f_globals.get('__name__') in sys.modules:
        return None
    return f'{frame.f_code.co_filename}:{line}'


def root_cause(error: BaseException) -> BaseException:
    """Returns the error at the start of a chain of causes."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def merge_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merges `--cfg-options` into `cfg`.

    Raises:
        InputError: If the first name of a key is none of the config's or the Runner's, or the rest
            of it does not fit the values that are there.
    """
    check_types(options, cfg)
    allowed = set(cfg) | set(inspect.signature(Runner).parameters)
    for key in options:
        first = key.partition('.')[0]
        if first not in allowed:
            raise InputError(f'--cfg-options {key}: {cfg.filename} has no {first!r}')
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f'--cfg-options {" ".join(options)}: {error}') from error


def require(cfg: Config, *keys: str) -> None:
    """Raises an InputError unless a config has all of some keys."""
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise InputError(f'{cfg.filename} has no {", ".join(missing)}')


def set_loader_defaults(cfg: Config, library: Library) -> None:
    """Sets what the library's own tool would in the loaders, where it has a use."""
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(key) or {}
        useless = {'pin_memory': get_device() == 'cpu'}
        useless['persistent_workers'] = not loader.get('num_workers')
        for name, value in library.loader.items():
            if loader and not useless.get(name):
                loader.setdefault(name, value)


def enable_amp(cfg: Config) -> None:
    """Trains in mixed precision: float16 with loss scaling, or on the CPU a bfloat16 backbone."""
    asked = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if asked not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise InputError(f'--amp: {cfg.filename} has an optim_wrapper of type {asked!r}')
    if get_device() == 'cpu':
        for key in ('dtype', 'loss_scale', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)
        cfg.optim_wrapper.type = CPUAmpOptimWrapper.__name__
    else:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def enable_auto_scale_lr(cfg: Config) -> None:
    """Lets the Runner scale the learning rate to the batch size."""
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise InputError(f'--auto-scale-lr: {cfg.filename} has no auto_scale_lr.base_batch_size')
    cfg.auto_scale_lr.enable = True


def disable_validation(cfg: Config) -> None:
    """Leaves validation out of a training."""
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        cfg[key] = None


def enable_pretrained(cfg: Config, checkpoint: str) -> None:
    """Lets a training start with the backbone of a checkpoint, as `backbone_weights` knows them.

    Sets `init_cfg` of the backbone, so that the config in the work dir says it.
    """
    backbone = cfg.model.get('backbone')
    if not isinstance(backbone, dict):
        raise InputError(f'--pretrained: {cfg.filename} has no model.backbone')
    for part in (cfg.model, backbone):
        part.pop('pretrained', None)  # an older way to say it, which excludes init_cfg
    backbone['init_cfg'] = dict(type='Pretrained', checkpoint=f'{BACKBONE_OF}{checkpoint}')


def enable_tta(cfg: Config, library: Library) -> None:
    """Wraps the model and replaces the test pipelines by those of test time augmentation.

    `tta_model` and `tta_pipeline` of the config count where it has them. Otherwise they are the
    library's model and the test pipeline, with images as they are and flipped.

    Raises:
        InputError: If the library cannot average what the model predicts, or there is no pipeline
            to flip images in.
    """
    tta_model = cfg.get('tta_model') or library.tta_model
    if tta_model is None:
        raise InputError(
            f'--tta: {library.name} has no model for it, and {cfg.filename} no tta_model; '
            'heads with model.test_cfg.flip_test=True flip images by themselves'
        )
    with_masks = any(part.get('mask_head') for part in (cfg.model, cfg.model.get('roi_head') or {}))
    if type_name(tta_model) == 'DetTTAModel' and with_masks:
        raise InputError(f'--tta: DetTTAModel averages boxes only, {cfg.filename} has a mask head')
    for leaf in leaf_configs(cfg.test_dataloader.dataset):
        leaf['pipeline'] = cfg.get('tta_pipeline') or flip_pipeline(leaf.get('pipeline') or [])
    cfg.model = dict(tta_model, module=cfg.model)


def flip_pipeline(pipeline: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns a test pipeline that gives each image as it is and flipped.

    Annotations are loaded after that: predictions are flipped back before they are compared.
    """
    names = [type_name(step) for step in pipeline]
    annotations = [step for step, name in zip(pipeline, names) if name == 'LoadAnnotations']
    others = [step for step, name in zip(pipeline, names) if name != 'LoadAnnotations']
    if not others or not names[-1].startswith('Pack'):
        raise InputError('--tta needs a tta_pipeline: the test pipeline does not end in Pack...')
    pack = dict(others.pop())
    if 'meta_keys' in pack:
        pack['meta_keys'] = tuple(dict.fromkeys((*pack['meta_keys'], 'flip', 'flip_direction')))
    flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
    after = [[step] for step in (*annotations, pack)]
    return [*others, dict(type='TestTimeAug', transforms=[flips, *after])]


def enable_drawing(cfg: Config, library: Library, show: bool, show_dir: str | None) -> None:
    """Switches the library's visualization hook on, to windows or to files in `show_dir`."""
    to_files = dict(vis_backends=[dict(type='LocalVisBackend')])
    cfg.visualizer = dict(type=library.visualizer) | (cfg.get('visualizer') or to_files)
    hooks = cfg.setdefault('default_hooks', {})
    hooks.visualization = dict(hooks.get('visualization') or {}, **library.visualization, show=show)
    if show_dir:
        cfg.merge_from_dict({library.show_dir_key: str(Path(show_dir).absolute())})


def dump_predictions(cfg: Config, library: Library, out: str) -> None:
    """Lets a test write its predictions, as the library's data samples, to a pickle file."""
    if not out.endswith(('.pkl', '.pickle')):
        raise InputError(f'--out must end in .pkl or .pickle, not {out}')
    metrics = cfg.test_evaluator
    metrics = list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
    cfg.test_evaluator = [*metrics, dict(type=library.dump_metric, out_file_path=out)]


@contextmanager
def unformatted(cfg: Config) -> Iterator[None]:
    """Leaves the text of a config as mmengine puts it together, without making it pretty.

    For a checkpoint, that would take nearly as long as to copy ScopeViT-tiny and its optimizer.
    """
    formats = vars(cfg)['_format_python_code']
    vars(cfg)['_format_python_code'] = False
    try:
        yield
    finally:
        vars(cfg)['_format_python_code'] = formats
