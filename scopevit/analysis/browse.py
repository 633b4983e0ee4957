"""Pictures of what a config's data set feeds the network, annotations drawn in, for any library.

The libraries have tools for it, one each, which show samples as they leave the pipeline. Here the
model's own preprocessor runs as well, so that normalisation, channel order, padding and mixed
images are those of the training; the libraries' visualizers draw.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, VISUALIZERS, DefaultScope
from mmengine.runner import set_random_seed
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from scopevit.analysis.pictures import ImageFormat, draw, draw_sheet, side_by_side, write_picture
from scopevit.engine.checks.data import check_dataset, check_dataset_files
from scopevit.engine.config import load_config, require
from scopevit.engine.explain import input_errors
from scopevit.engine.libraries import Library, find_library
from scopevit.engine.model import build_model
from scopevit.engine.walk import leaf_configs, type_name
from scopevit.errors import InputError

STAGES = ('original', 'transformed', 'both')
# Steps that neither change pixels nor move annotations; without KeypointConverter, the parts of a
# mmpose CombinedDataset would have different keypoints.
ORIGINAL_STEPS = ('Load', 'KeypointConverter', 'Pack')
# Images in one draw of MixUp or CutMix: a few draws show more than one does.
MIXED_TOGETHER = 4
# How often a sample is tried that a random crop, say, leaves without objects.
TRIES = 10
SHEET_SIZE = 16


def browse(
    config: str | Path,
    split: str = 'train',
    number: int = 16,
    stages: str = 'transformed',
    out_dir: str | Path | None = None,
    show: bool = False,
    seed: int = 0,
    cfg_options: dict | None = None,
) -> list[Path]:
    """Draws samples of a config's data set, one picture each, and a contact sheet of the first 16.

    The arguments are those of `tools/analysis_tools/dataset_browse.py`, whose help says what they
    are. Samples are chosen at random; all are drawn, where the data set has no more.

    Returns:
        The pictures, the contact sheet last.

    Raises:
        InputError: If something given is wrong, or a file of the data set.
    """
    if number < 1:
        raise InputError(f'--number must be at least 1, not {number}')
    if not 0 <= seed < 2**31:
        raise InputError(f'--seed must be from 0 to 2147483647, not {seed}')
    # matplotlib falls back to this one where it finds no screen.
    if show and plt.get_backend().lower() == 'agg':
        raise InputError('--show needs a screen; without it, the pictures are in --out-dir')
    cfg = load_config(config, cfg_options)
    library = find_library(cfg.get('default_scope'))
    require(cfg, 'model', f'{split}_dataloader')
    out_dir = Path(out_dir or Path(cfg.work_dir, 'browse'))
    paths: list[Path] = []
    first: list[tuple[str, np.ndarray]] = []
    with DefaultScope.overwrite_default_scope(library.name), input_errors(str(config)):
        for name, picture in draw_samples(cfg, library, split, number, stages, seed):
            paths.append(out_dir / f'{name}.png')
            write_picture(paths[-1], picture)
            if len(first) < SHEET_SIZE:
                first.append((name, picture))
            if show:
                Visualizer().show(picture, win_name=name)
    if not first:
        raise InputError(f'{config}: the pipeline of {split}_dataloader drops every sample')
    paths.append(out_dir / 'contact_sheet.png')
    write_picture(paths[-1], draw_sheet(first))
    return paths


def draw_samples(
    cfg: Config, library: Library, split: str, number: int, stages: str, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields name and picture of each sample, (H, W, 3) RGB; `browse` has the arguments."""
    model = build_model(cfg)
    preprocessor: Any = model.data_preprocessor
    dataset_cfg = cfg[f'{split}_dataloader'].dataset
    key = f'{split}_dataloader.dataset'
    check_dataset_files(dataset_cfg, key, library.name)
    configs = {'original': keep_original_steps(dataset_cfg), 'transformed': dataset_cfg}
    datasets = {
        stage: build_dataset(configs[stage], model, key)
        for stage in (configs if stages == 'both' else [stages])
    }
    dataset = next(iter(datasets.values()))
    visualizer = build_visualizer(cfg, library, dataset.metainfo)
    as_loaded = ImageFormat(not loads_bgr(dataset_cfg), (), annotated_as_loaded=False)
    as_fed = fed_format(dataset_cfg, preprocessor)

    training = split == 'train'
    mixes = training and getattr(preprocessor, 'batch_augments', None) is not None
    group_size = MIXED_TOGETHER if mixes else 1
    chosen = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:number]).tolist()
    for start in range(0, len(chosen), group_size):
        group = {}
        for index in chosen[start : start + group_size]:
            set_random_seed(seed + index)
            samples = take_sample(datasets, index)
            if samples:
                group[index] = samples
            else:
                print(f'sample {index}: dropped by the pipeline {TRIES} times, left out')
        if group and 'transformed' in datasets:
            fed = preprocess(preprocessor, [s['transformed'] for s in group.values()], training)
            for samples, image, annotations in zip(group.values(), *fed):
                samples['transformed'] = dict(inputs=image, data_samples=annotations)
        for index, samples in group.items():
            path = next(iter(samples.values()))['data_samples'].get('img_path')
            pictures = [
                draw(visualizer, as_loaded if stage == 'original' else as_fed, **sample)
                for stage, sample in samples.items()
            ]
            stem = f'_{Path(path).stem}' if path else ''
            yield f'{split}_{index:06d}{stem}', side_by_side(pictures)


def build_dataset(cfg: dict, model: nn.Module, key: str) -> Any:
    """Builds a data set in the current scope, and checks it as training does.

    Raises:
        InputError: If it is empty or does not fit the model.
    """
    for step in all_steps(cfg):
        if type_name(step) == 'PackPoseInputs':
            step['pack_transformed'] = True  # keypoints in the pixels of the network's image
    try:
        dataset = DATASETS.build(cfg)
    except ValueError as error:
        # What mmengine's BaseDataset says when nothing was found, or nothing was left.
        if 'need at least one array to concatenate' in str(error):
            raise InputError(f'{key} has no samples') from error
        raise
    check_dataset(dataset, model, key)
    return dataset


def keep_original_steps(cfg: Any) -> Any:
    """Copies the config of a data set, its pipelines reduced to loading and packing."""
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(keep_original_steps(item) for item in cfg)
    if not isinstance(cfg, dict):
        return cfg
    copy = {key: keep_original_steps(value) for key, value in cfg.items()}
    if isinstance(copy.get('pipeline'), list):
        copy['pipeline'] = [s for s in copy['pipeline'] if type_name(s).startswith(ORIGINAL_STEPS)]
    return copy


def all_steps(cfg: Any) -> Iterator[dict]:
    """Yields every dict with a type in the config of a data set, those of nested pipelines too."""
    if isinstance(cfg, dict):
        if 'type' in cfg:
            yield cfg
        cfg = list(cfg.values())
    if isinstance(cfg, (list, tuple)):
        for item in cfg:
            yield from all_steps(item)


def loads_bgr(cfg: dict) -> bool:
    """Whether images come from files, which mmcv reads as BGR; arrays, as of CIFAR, are RGB."""
    return any(type_name(step).startswith('LoadImage') for step in all_steps(cfg))


def fed_format(dataset_cfg: dict, preprocessor: Any) -> ImageFormat:
    """Says how the network's input came from pixels: in the pipeline, then in the preprocessor."""
    normalizations, swaps = [], int(loads_bgr(dataset_cfg))
    for step in all_steps(dataset_cfg):
        if type_name(step) == 'Normalize':
            mean, std = (torch.tensor(step[name]).view(-1, 1, 1) for name in ('mean', 'std'))
            normalizations.append((mean, std))
            swaps += step.get('to_rgb', True)
    if getattr(preprocessor, '_enable_normalize', False):
        normalizations.append((preprocessor.mean, preprocessor.std))
    # mmpretrain, mmseg, and mmengine for the others, call it differently.
    names = ('to_rgb', 'channel_conversion', '_channel_conversion')
    swaps += any(getattr(preprocessor, name, False) for name in names)
    return ImageFormat(swaps % 2 == 0, tuple(normalizations), annotates_late(dataset_cfg))


def annotates_late(cfg: dict) -> bool:
    """Whether annotations are loaded after the image was resized, as test pipelines do."""
    for leaf in leaf_configs(cfg):
        names = [type_name(step) for step in leaf.get('pipeline') or []]
        loading = [i for i, name in enumerate(names) if re.match('Load.*Annotation', name)]
        if loading and not all(name.startswith('Load') for name in names[: loading[0]]):
            return True
    return False


def take_sample(datasets: dict[str, Any], index: int) -> dict[str, dict] | None:
    """Takes a sample from the data set of each stage.

    For a sample that its pipeline drops, a data set gives another one; beside the original, only
    the same will do.

    Returns:
        Samples by stage; None if the pipeline drops it again and again.
    """
    for _ in range(TRIES):
        samples = {stage: dataset[index] for stage, dataset in datasets.items()}
        if len({sample['data_samples'].get('img_path') for sample in samples.values()}) == 1:
            return samples
    return None


def preprocess(
    preprocessor: nn.Module, samples: list[dict], training: bool
) -> tuple[Tensor, list[BaseDataElement]]:
    """Batches samples as the model does: images, (N, C, H, W), and their annotations."""
    batch = preprocessor(pseudo_collate(samples), training)
    if not isinstance(batch['inputs'], Tensor) or batch['inputs'].ndim != 4:
        raise InputError(
            f'model.data_preprocessor of type {type(preprocessor).__name__} gives no batch of '
            'images: only what trains on single images can be drawn'
        )
    return batch['inputs'], batch['data_samples']


def build_visualizer(cfg: Config, library: Library, metainfo: dict) -> Visualizer:
    """Builds the config's visualizer, or the library's, without what writes to a work dir."""
    options = dict(cfg.get('visualizer') or {})
    kind = options.pop('type', library.visualizer)
    for key in ('name', 'vis_backends', 'save_dir'):
        options.pop(key, None)
    if library.name == 'mmpose':
        options = dict(radius=5, line_width=2) | options
    if isinstance(kind, str):
        with VISUALIZERS.switch_scope_and_registry(library.name) as registry:
            name, kind = kind, registry.get(kind)
        if kind is None:
            raise InputError(f'{cfg.filename}: visualizer.type {name!r} is none of {library.name}')
    # Not by the registry, which returns an earlier one of the same name.
    visualizer = kind(**options)
    if library.name == 'mmpose':
        visualizer.set_dataset_meta(metainfo)  # takes over the colours of keypoints
    else:
        visualizer.dataset_meta = metainfo
    return visualizer
