"""What prediction takes from a config: the model, the test pipeline, and what the classes are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmengine.config import Config, ConfigDict

from scopevit.engine.checks.kinds import check_dict, check_kinds
from scopevit.engine.config import read_config
from scopevit.engine.libraries import Library, find_library
from scopevit.engine.walk import leaf_configs, type_name
from scopevit.errors import InputError
from scopevit.inference.metainfo import config_metainfo
from scopevit.inference.stored_config import (
    registered_types,
    stored_config,
    without_initial_weights,
)

# Steps that give the pipeline its image; the options they share with mmcv.imfrombytes.
LOADERS = ('LoadImage', 'LoadImageFromFile', 'LoadImageFromNDArray', 'InferencerLoader')


@dataclass(frozen=True)
class Loading:
    """How images come into the pipeline, as mmcv's LoadImageFromFile has it.

    Attributes:
        color_type: As `mmcv.imfrombytes` knows it; None for data sets of arrays, which say nothing.
        backend: What decodes files, also of `mmcv.imfrombytes`.
        to_float32: Whether pixels become floating point numbers.
        is_rgb: Whether channels are in that order: those of arrays are, those of files are not.
    """

    color_type: str | None = 'color'
    backend: str = 'cv2'
    to_float32: bool = False
    is_rgb: bool = False


@dataclass(frozen=True)
class Recipe:
    """What prediction takes from a config.

    Attributes:
        source: The config, for messages.
        library: The library of the config.
        model: Config of the model, without initial weights.
        loading: How images come into the pipeline.
        pipeline: The other steps of the test pipeline, but for those that load annotations.
        batch_size: Of the test.
        is_topdown: Whether the network takes a box of an image, not all of it.
        metainfo: What the data set or, if it is there, the checkpoint says of the classes.
    """

    source: str
    library: Library
    model: dict[str, Any]
    loading: Loading
    pipeline: list[dict[str, Any]]
    batch_size: int
    is_topdown: bool
    metainfo: dict[str, Any] = field(default_factory=dict)


def find_recipe(checkpoint: Mapping[str, Any], path: Path, config: str | Path | None) -> Recipe:
    """Finds the config of a checkpoint and what prediction takes from it.

    Args:
        checkpoint: What the file holds.
        path: The file; a config beside it, with its name but for the ending `.py`, comes before the
            one in it. Both are read as data.
        config: A config file that comes before both, and is run as Python code as in training.

    Raises:
        InputError: If there is no config, it is not to be read, or none of a model and a test.
    """
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    beside = path.with_suffix('.py')
    if config is not None:
        cfg = read_config(Path(config))
        source = str(config)
    elif beside.is_file():
        cfg = stored_config(beside.read_text(encoding='utf-8', errors='replace'), beside)
        source = str(beside)
    elif isinstance(meta.get('cfg'), str) and meta['cfg'].strip():
        cfg = stored_config(meta['cfg'], path)
        source = f'config in {path}'
    else:
        raise InputError(
            f'{path} has no config in it (meta.cfg): name its file by --config, or config='
        )
    metainfo = meta.get('dataset_meta') or {}
    check_dict(metainfo, 'meta.dataset_meta', str(path))
    return read_recipe(cfg, source, metainfo, trusted=config is not None)


def read_recipe(cfg: Config, source: str, metainfo: Mapping[str, Any], trusted: bool) -> Recipe:
    """Returns what prediction takes from a config, see `find_recipe`."""
    check_kinds(cfg, source)
    try:
        library = find_library(cfg.get('default_scope'))
    except InputError as error:
        raise InputError(f'{source}: {error}') from error
    model, loader, dataset = cfg.get('model'), *find_test(cfg)
    if not isinstance(model, Mapping) or not dataset.get('pipeline'):
        missing = 'test_dataloader.dataset.pipeline' if isinstance(model, Mapping) else 'model'
        raise InputError(f'{source} has no {missing}')
    model, steps = dict(model), list(dataset['pipeline'])
    if library.name == 'mmpretrain':
        model.pop('train_cfg', None)  # mixing of images, of which the model would tell
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    if library.name != 'mmpretrain' and not model.get('data_preprocessor'):  # it has a default
        raise InputError(f'{source} has no model.data_preprocessor, which makes batches of images')
    batch_size = loader.get('batch_size') or 1
    if not isinstance(batch_size, int):
        raise InputError(f'{source}: batch_size of the test must be a number, not {batch_size!r}')
    if not trusted:
        model, steps = registered_types(model, source), registered_types(steps, source)
    loading, pipeline = split_pipeline(steps, source)
    names = {str(key).lower(): value for key, value in metainfo.items()}
    if ('keypoint_id2name' if library.name == 'mmpose' else 'classes') not in names:
        names = config_metainfo(dataset, library, source, trusted) | names
    return Recipe(
        source,
        library,
        ConfigDict(without_initial_weights(model)),
        loading,
        pipeline,
        batch_size,
        is_topdown=library.name == 'mmpose' and dataset.get('data_mode', 'topdown') == 'topdown',
        metainfo=names,
    )


def find_test(cfg: Config) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Returns the loader of the test, or else of validation, and its data set."""
    for key in ('test_dataloader', 'val_dataloader'):
        loader = cfg.get(key)
        if isinstance(loader, Mapping) and isinstance(loader.get('dataset'), Mapping):
            return loader, next(iter(leaf_configs(loader['dataset'])), {})
    return {}, {}


def split_pipeline(
    steps: list[dict[str, Any]], source: str
) -> tuple[Loading, list[dict[str, Any]]]:
    """Returns how a test pipeline loads images, and its steps after that but for annotations."""
    loading = Loading(color_type=None, is_rgb=True)
    rest = []
    for step in steps:
        name = type_name(step)
        if name in LOADERS:
            loading = Loading(
                step.get('color_type', 'color'),
                step.get('imdecode_backend', 'cv2'),
                step.get('to_float32', False),
            )
            check_loading(loading, source)
        elif name.startswith('Load') and 'Annotation' not in name:
            raise InputError(f'{source}: the test pipeline loads images by {name}, which is not '
                             f'supported: {", ".join(LOADERS[:2])} are')  # fmt: skip
        elif not name.startswith('Load'):
            rest.append(step)
    if not rest or not type_name(rest[-1]).startswith('Pack'):
        raise InputError(f'{source}: the test pipeline does not end in Pack...')
    return loading, rest


def check_loading(loading: Loading, source: str) -> None:
    """Raises an InputError where mmcv does not load images so, or lacks the package for it."""
    ending = '.tif' if loading.backend == 'tifffile' else '.jpg'
    content = cv2.imencode(ending, np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    try:
        mmcv.imfrombytes(content, flag=loading.color_type, backend=loading.backend)
    except Exception as error:  # whatever the package for it raises
        raise InputError(
            f'{source}: the test pipeline loads images by color_type={loading.color_type!r} and '
            f'imdecode_backend={loading.backend!r}, which mmcv does not support here; '
            "'color', or 'grayscale', and 'cv2' are"
        ) from error
