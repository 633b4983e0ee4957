"""Pictures of what a config's data set feeds the network, annotations drawn in, for any library.

The libraries have tools for it, one each, which show samples as they leave the pipeline. Here the
model's own preprocessor runs as well, so that normalisation, channel order, padding and mixed
images are those of the training; the libraries' visualizers draw.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, VISUALIZERS, DefaultScope
from mmengine.runner import set_random_seed
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from mmengine.visualization import Visualizer
from torch import Tensor, nn
from torch.nn import functional

from scopevit.engine.checks.data import check_dataset, check_dataset_files
from scopevit.engine.config import load_config, require
from scopevit.engine.explain import input_errors
from scopevit.engine.libraries import Library, find_library
from scopevit.engine.model import build_model
from scopevit.engine.walk import leaf_configs, type_name
from scopevit.errors import InputError
from scopevit.files import write_bytes

STAGES = ('original', 'transformed', 'both')
# Steps that neither change pixels nor move annotations; without KeypointConverter, the parts of a
# mmpose CombinedDataset would have different keypoints.
ORIGINAL_STEPS = ('Load', 'KeypointConverter', 'Pack')
# Small images are enlarged to about this many pixels, for lines and text to be readable.
LONG_SIDE = 640
# Images in one draw of MixUp or CutMix: a few draws show more than one does.
MIXED_TOGETHER = 4
# How often a sample is tried that a random crop, say, leaves without objects.
TRIES = 10
SHEET_SIZE = 16


@dataclass(frozen=True)
class ImageFormat:
    """How the numbers of an image came from its pixels.

    Attributes:
        is_rgb: Order of the channels, where there are three.
        normalizations: Pairs (mean, std) of shape (C, 1, 1), in the order they were applied.
        annotated_as_loaded: Whether annotations are in the pixels of the file, not of the image.
    """

    is_rgb: bool
    normalizations: tuple[tuple[Tensor, Tensor], ...]
    annotated_as_loaded: bool

    def to_pixels(self, image: Tensor) -> np.ndarray:
        """Converts an image to what can be shown.

        Args:
            image: Of shape (C, H, W). With other than three channels, the first is shown.

        Returns:
            RGB of shape (H, W, 3), uint8.
        """
        pixels = image.float()
        for mean, std in reversed(self.normalizations):
            pixels = pixels * std + mean
        if image.is_floating_point() and not self.normalizations and pixels.max() < 20:
            # Scaled by a step that does not say how, such as torchvision's ToTensor.
            pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-6) * 255
        if len(pixels) != 3:
            pixels = pixels[:1].expand(3, -1, -1)
        elif not self.is_rgb:
            pixels = pixels.flip(0)
        # (3, H, W) -> (H, W, 3)
        return pixels.permute(1, 2, 0).clamp(0, 255).round().byte().numpy()


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

    Args:
        config: Config file.
        split: 'train', 'val' or 'test'.
        number: How many samples, chosen at random; all, where the data set has no more.
        stages: 'transformed' as the data preprocessor hands it to the network, 'original' as
            loaded, or 'both' side by side.
        out_dir: Folder for the pictures; by default `browse` in the work dir.
        show: Whether to show every picture in a window, too.
        seed: Seed of the choice and the random transforms.
        cfg_options: Values for the config by dotted key.

    Returns:
        The pictures, the contact sheet last.

    Raises:
        InputError: If something given is wrong, or a file of the data set.
    """
    if number < 1:
        raise InputError(f'--number must be at least 1, not {number}')
    if not 0 <= seed < 2**31:
        raise InputError(f'--seed must be from 0 to 2147483647, not {seed}')
    if stages not in STAGES:
        raise InputError(f'--stages must be one of {", ".join(STAGES)}, not {stages!r}')
    # matplotlib falls back to this one where it finds no screen.
    if show and plt.get_backend().lower() == 'agg':
        raise InputError('--show needs a screen; without it, the pictures are in --out-dir')
    cfg = load_config(config, cfg_options)
    library = find_library(cfg.get('default_scope'))
    require(cfg, 'model', f'{split}_dataloader')
    out_dir = Path(out_dir or Path(cfg.work_dir, 'browse'))
    paths, first = [], []
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
    preprocessor = model.data_preprocessor
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


def build_dataset(cfg: dict, model: nn.Module, key: str) -> object:
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


def keep_original_steps(cfg: object) -> object:
    """Copies the config of a data set, its pipelines reduced to loading and packing."""
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(keep_original_steps(item) for item in cfg)
    if not isinstance(cfg, dict):
        return cfg
    copy = {key: keep_original_steps(value) for key, value in cfg.items()}
    if isinstance(copy.get('pipeline'), list):
        copy['pipeline'] = [s for s in copy['pipeline'] if type_name(s).startswith(ORIGINAL_STEPS)]
    return copy


def all_steps(cfg: object) -> Iterator[dict]:
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


def fed_format(dataset_cfg: dict, preprocessor: nn.Module) -> ImageFormat:
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


def take_sample(datasets: dict[str, object], index: int) -> dict[str, dict] | None:
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


def draw(
    visualizer: Visualizer, image_format: ImageFormat, inputs: Tensor, data_samples: BaseDataElement
) -> np.ndarray:
    """Draws an image with its annotations.

    Args:
        visualizer: The library's.
        image_format: Of the image.
        inputs: Image of shape (C, H, W).
        data_samples: Its annotations; changed in place.

    Returns:
        RGB of shape (H', W', 3), uint8.
    """
    pixels, sample = image_format.to_pixels(inputs), data_samples
    if image_format.annotated_as_loaded and 'scale_factor' in sample:
        rescale_annotations(sample, *sample.scale_factor)
    height, width = annotated_size(sample) or pixels.shape[:2]
    pixels = pixels[:height, :width]
    scale = max(1, round(LONG_SIDE / max(pixels.shape[:2])))
    pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    rescale_annotations(sample, scale, scale)
    visualizer.set_image(pixels)  # stays where there is nothing to draw
    if hasattr(visualizer, 'visualize_cls'):
        names = mixed_names(sample, (visualizer.dataset_meta or {}).get('classes'))
        visualizer.visualize_cls(pixels, sample, classes=names, draw_pred=False)
        return visualizer.get_image()
    if 'data' in sample.get('gt_sem_seg', {}):
        # Its own labels lie on the image, white on white in part, and take seconds.
        visualizer.add_datasample('', pixels, sample, draw_pred=False, with_labels=False)
        legend = draw_legend(sample.gt_sem_seg.data, visualizer.dataset_meta, pixels.shape[1])
        return np.vstack([visualizer.get_image(), legend])
    if 'keypoints' not in sample.get('gt_instances', {}):
        visualizer.add_datasample('', pixels, sample, draw_pred=False)
        return visualizer.get_image()
    visualizer.add_datasample(
        '',
        pixels,
        sample,
        draw_pred=False,
        draw_heatmap=isinstance(sample.get('gt_fields'), PixelData),
        # Boxes stay in the pixels of the file.
        draw_bbox='transformed_keypoints' not in sample.gt_instances,
    )
    # The library puts the heatmap below the image.
    picture = visualizer.get_image()
    return np.hstack(np.split(picture, len(picture) // len(pixels)))


def annotated_size(sample: BaseDataElement) -> tuple[int, int] | None:
    """Returns height and width of masks or label maps, which outside of training lack padding."""
    masks = sample.get('gt_instances', {}).get('masks')
    if masks is not None:
        return masks.height, masks.width
    return sample.gt_sem_seg.shape if 'gt_sem_seg' in sample else None


def rescale_annotations(sample: BaseDataElement, scale_x: float, scale_y: float) -> None:
    """Fits the annotations to an image that was resized by two factors, in place."""
    instances = sample.get('gt_instances', InstanceData())
    if 'bboxes' in instances:
        boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)
        boxes[:, 0::2] *= scale_x  # (x1, y1, x2, y2)
        boxes[:, 1::2] *= scale_y
        instances.bboxes = boxes
    if 'masks' in instances:
        masks = instances.masks
        instances.masks = masks.resize(
            (round(masks.height * scale_y), round(masks.width * scale_x))
        )
    for name in ('keypoints', 'transformed_keypoints'):
        if name in instances:
            # The middle of a pixel stays the middle.
            points = (instances.get(name) + 0.5) * np.array([scale_x, scale_y]) - 0.5
            instances.set_field(points, name)
    if np.ndim(instances.get('keypoints_visible')) == 3:
        # (N, K, 2) -> (N, K): visibility without the weight
        instances.set_field(instances.keypoints_visible[..., 0], 'keypoints_visible')
    for name in ('gt_sem_seg', 'gt_depth_map'):
        if name in sample:
            maps = sample.get(name)
            size = round(maps.shape[0] * scale_y), round(maps.shape[1] * scale_x)
            resized = {key: resize_map(torch.as_tensor(value), size) for key, value in maps.items()}
            setattr(sample, name, maps.new(**resized))


def resize_map(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes a map, (1, H, W), to height and width by the nearest pixels."""
    return functional.interpolate(labels[None].double(), size)[0].to(labels.dtype)


def mixed_names(sample: BaseDataElement, classes: list[str] | None) -> list[str] | None:
    """Labels a mixed image by all of its classes, in place; returns names that give the shares."""
    score = sample.get('gt_score')
    if score is None or score.count_nonzero() < 2:
        return None
    sample.set_gt_label(score.nonzero().flatten())
    names = classes or map(str, range(len(score)))
    return [f'{name}: {share:.2f}' for name, share in zip(names, score.tolist())]


def draw_legend(labels: Tensor, metainfo: dict, width: int) -> np.ndarray:
    """Draws colour and name of each class in a label map, (1, H, W); returns (H', width, 3)."""
    present = [i for i in labels.unique().tolist() if i < len(metainfo['classes'])]
    columns, row = max(1, width // 160), 24
    legend = np.full((row * -(-len(present) // columns), width, 3), 255, np.uint8)
    for place, label in enumerate(present):
        x, y = place % columns * 160 + 4, place // columns * row + 4
        color = tuple(map(int, metainfo['palette'][label]))
        cv2.rectangle(legend, (x, y), (x + 16, y + 16), color, cv2.FILLED)
        cv2.rectangle(legend, (x, y), (x + 16, y + 16), (0, 0, 0))
        name = metainfo['classes'][label]
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(legend, name, (x + 22, y + 13), font, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return legend


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """Joins pictures, each (H, W, 3), left to right on white."""
    height, gap = max(len(picture) for picture in pictures), 8
    padded = [
        cv2.copyMakeBorder(
            picture, 0, height - len(picture), 0, gap, cv2.BORDER_CONSTANT, value=(255,) * 3
        )
        for picture in pictures
    ]
    return np.hstack(padded)[:, :-gap]


def draw_sheet(pictures: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Draws named pictures into a grid, two or four a row; returns (H, W, 3), RGB."""
    tallest = max(picture.shape[0] / picture.shape[1] for _, picture in pictures)
    columns = min(4 if tallest > 0.7 else 2, len(pictures))
    rows = -(-len(pictures) // columns)
    width = 14.4 / max(columns, 2)  # inches
    size = (width * columns, (width * tallest + 0.35) * rows)
    figure = Figure(size, dpi=100, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis('off')
    for axes, (name, picture) in zip(grid, pictures):
        axes.imshow(picture)
        axes.set_title(name if len(name) <= 40 else f'{name[:39]}…', fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a picture, (H, W, 3) RGB, as a PNG file, whole or not at all."""
    _, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    write_bytes(path, data.tobytes())
