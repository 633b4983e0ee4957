"""Networks to measure, from configs of this project's libraries and from timm."""

import difflib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from scopevit.engine.config import load_config
from scopevit.engine.explain import input_errors
from scopevit.engine.libraries import LIBRARIES, find_library
from scopevit.engine.model import build_model
from scopevit.engine.walk import leaf_configs, type_name
from scopevit.errors import InputError, error_text

TASKS = {name: library.task for name, library in LIBRARIES.items()}
# Settings of a model that change neither what it computes when it is tested nor how long it takes.
TRAINING_KEYS = {'train_cfg', 'init_cfg', 'pretrained', 'drop_path_rate', 'drop_rate', 'with_cp'}
# Sides in pixels of the boxes that stand for the proposals of a two-stage detector.
BOX_SIZES = (32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Network:
    """A network to measure."""

    name: str  # stem of the config, or timm's name
    source: str  # path of the config, or 'timm'
    task: str  # 'classification', 'detection', 'segmentation' or 'pose'
    backbone: str  # its type, 'ScopeViT' for ours; timm's name for a model of timm
    shape: tuple[int, int, int]  # one input, (channels, height, width)
    # In eval mode, on the CPU, without pre- and post-processing: it takes images (N, C, H, W).
    module: nn.Module

    @property
    def model(self) -> nn.Module:
        """The model as its library built it."""
        return self.module.model if isinstance(self.module, TensorForward) else self.module

    def make_input(self, batch_size: int = 1, device: str = 'cpu') -> Tensor:
        """Returns one image of noise, the same every time, `batch_size` times: (N, C, H, W)."""
        image = torch.randn(self.shape, generator=torch.Generator().manual_seed(0))
        return image.repeat(batch_size, 1, 1, 1).to(device)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Names the network and its input where it does not run, in an `InputError`."""
        try:
            yield
        except (AssertionError, LookupError, NotImplementedError, RuntimeError, TypeError,
                ValueError) as error:  # fmt: skip
            size = 'x'.join(map(str, self.shape[1:]))
            raise InputError(
                f'{self.name} does not run on images of {size}: {error_text(error)}'
            ) from error


class TensorForward(nn.Module):
    """A model of one of the four libraries, as a function of images alone: its mode 'tensor'."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor) -> object:
        """Returns what the last layers give for images of (N, C, H, W)."""
        return self.model(images, None, mode='tensor')


class TwoStageForward(TensorForward):
    """A two-stage detector of mmdet with a fixed number of boxes instead of its proposals.

    The network of a two-stage detector depends on what it sees. What is measured here is what the
    field counts: backbone, neck and RPN head on the images, the box head on `test_cfg.rpn`'s
    `max_per_img` boxes an image and the mask head on those of `test_cfg.rcnn`. RoIAlign runs too,
    on boxes spread over the image; decoding and NMS do not. Of a cascade, each stage's head runs
    on all of them. The `roi_head` is a `StandardRoIHead` or a `CascadeRoIHead`.
    """

    def forward(self, images: Tensor) -> tuple:
        """Returns what the heads give for images of (N, C, H, W)."""
        roi_head, test_cfg = self.model.roi_head, self.model.test_cfg
        maps = self.model.extract_feat(images)
        boxes = spread_boxes(images, test_cfg['rpn']['max_per_img'])
        outputs: tuple = (self.model.rpn_head(maps),)
        for extractor, head in stages(roi_head.bbox_roi_extractor, roi_head.bbox_head):
            outputs += (head(pool_boxes(extractor, maps, boxes)),)
        if roi_head.with_mask:
            boxes = spread_boxes(images, test_cfg['rcnn']['max_per_img'])
            for extractor, head in stages(roi_head.mask_roi_extractor, roi_head.mask_head):
                outputs += (head(pool_boxes(extractor, maps, boxes)),)
        return outputs


class QueryForward(TensorForward):
    """A network that asks queries about an image, and reads the image's size in its sample."""

    def forward(self, images: Tensor) -> object:
        """Returns what the last layers give for images of (N, C, H, W)."""
        size = tuple(images.shape[-2:])
        sample = BaseDataElement(metainfo=dict(img_shape=size, batch_input_shape=size))
        samples = [sample] * len(images)
        if hasattr(self.model, 'decode_head'):  # to which mmseg's mode 'tensor' gives no samples
            return self.model.decode_head(self.model.extract_feat(images), samples)
        return self.model(images, samples, mode='tensor')


def stages(extractor: nn.Module, head: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Returns extractors and heads in pairs: those of a cascade's stages, or the only ones."""
    if isinstance(extractor, nn.ModuleList) and isinstance(head, nn.ModuleList):
        return list(zip(extractor, head))
    return [(extractor, head)]


def spread_boxes(images: Tensor, count: int) -> Tensor:
    """Makes boxes of `BOX_SIZES` in turn, their centres on a grid, cut off at the border.

    Returns:
        Index of the image, left, top, right, bottom in pixels, (N * count, 5) of (N, C, H, W).
    """
    batch, _, height, width = images.shape
    columns = max(1, round((count * width / height) ** 0.5))
    rows = -(-count // columns)
    index = torch.arange(count, device=images.device)
    half = torch.tensor(BOX_SIZES, device=images.device)[index % len(BOX_SIZES)] / 2
    x = (index % columns + 0.5) * width / columns
    y = (index // columns + 0.5) * height / rows
    sides = [x - half, y - half, x + half, y + half]
    sides = [side.clamp(0, end) for side, end in zip(sides, (width, height) * 2)]
    boxes = torch.stack(sides, dim=1).to(images.dtype).repeat(batch, 1)  # (N * count, 4)
    image = torch.arange(batch, device=images.device).repeat_interleave(count)
    return torch.cat([image[:, None].to(boxes), boxes], dim=1)


def pool_boxes(extractor: Any, maps: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """Returns the features of boxes, (boxes, C, size, size)."""
    if boxes.is_meta:  # the values decide which map a box takes
        size = extractor.roi_layers[0].output_size
        return maps[0].new_empty(len(boxes), extractor.out_channels, *size)
    return extractor(maps[: extractor.num_inputs], boxes)


def from_config(path: str | Path, size: tuple[int, int] | None = None) -> Network:
    """Builds the network of a config file; see `build_network`."""
    return build_network(load_config(path), size)


def build_network(cfg: Config, size: tuple[int, int] | None = None) -> Network:
    """Builds the network of a config, for a height and width in pixels or those of the recipe.

    Raises:
        InputError: If the config has errors, or does not tell the size.
    """
    find_library(cfg.get('default_scope'))
    if cfg.get('model') is None:
        raise InputError(f'{cfg.filename} has no model')
    shape = input_shape(cfg, size)
    with input_errors(cfg.filename):
        module = build_model(cfg).eval()
    return Network(
        name=Path(cfg.filename).stem,
        source=str(cfg.filename),
        task=TASKS[cfg.default_scope],
        backbone=type_name(cfg.model.get('backbone') or cfg.model),
        shape=shape,
        module=tensor_forward(module, cfg.filename),
    )


def tensor_forward(model: nn.Module, source: str) -> TensorForward:
    """Returns a model as a function of images, a two-stage detector with its boxes fixed."""
    if has_queries(model):
        return QueryForward(model)
    if not (getattr(model, 'with_rpn', False) and getattr(model, 'with_roi_head', False)):
        return TensorForward(model)
    # Slow to import, and for detectors alone.
    from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead

    roi_head: Any = model.roi_head
    known = isinstance(roi_head, StandardRoIHead) or type(roi_head) is CascadeRoIHead
    if not known or roi_head.with_shared_head:
        raise InputError(
            f'{source}: the roi_head must be a StandardRoIHead or a CascadeRoIHead without '
            f'shared_head to be measured, not {type(roi_head).__name__}'
        )
    return TwoStageForward(model)


def has_queries(model: nn.Module) -> bool:
    """Whether a model is a detector of the DETR family, or has a head of Mask2Former's."""
    if hasattr(model, 'forward_transformer') or hasattr(model, 'panoptic_head'):
        return True
    return type(getattr(model, 'decode_head', None)).__name__ == 'Mask2FormerHead'


def from_timm(name: str, size: tuple[int, int] | None = None) -> Network:
    """Builds a model of timm, with random weights, for a height and width or those of its own.

    Raises:
        InputError: If timm has no such model; the message names similar ones.
    """
    check_timm_name(name)
    module = timm.create_model(name).eval()
    channels, *own_size = module.pretrained_cfg['input_size']
    shape = (channels, *(size or own_size))
    return Network(name, 'timm', 'classification', name, shape, module)


def check_timm_name(name: str) -> None:
    """Raises an InputError unless timm has a model of some name."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f'; did you mean {", ".join(near)}?' if near else '; see timm.list_models()'
        raise InputError(f'timm has no model {name!r}{hint}')


def from_name(name: str, size: tuple[int, int] | None = None) -> Network:
    """Builds a network from a config file, or where it is none, from timm's name of a model."""
    if name.endswith('.py') or Path(name).exists():
        return from_config(name, size)
    return from_timm(name, size)


def network_key(cfg: Config, size: tuple[int, int] | None = None) -> str:
    """Returns a text that two recipes share whose networks and input sizes are the same."""
    model = untrained(cfg.get('model') or {})
    return json.dumps([cfg.get('default_scope'), input_shape(cfg, size), model], default=str)


def untrained(value: object) -> object:
    """Returns a part of a model's config without what concerns training alone."""
    if isinstance(value, dict):
        kept = sorted((key, item) for key, item in value.items() if key not in TRAINING_KEYS)
        return {
            key: untrained(item)
            for key, item in kept
            if not key.startswith('loss') and key != 'data_preprocessor'
        }
    if isinstance(value, (list, tuple)):
        return [untrained(item) for item in value]
    return value


def input_shape(cfg: Config, size: tuple[int, int] | None = None) -> tuple[int, int, int]:
    """Returns the channels, height and width of a recipe's input.

    Without a size, (height, width), they are those at which the recipe tests; for detection those
    of a landscape image as large as the recipe's scale admits, padded.

    Raises:
        InputError: If the config does not tell the size.
    """
    size = size or recipe_size(cfg)
    if size is None:
        raise InputError(
            f'{cfg.filename} does not tell the size of its images: give --shape HEIGHT WIDTH'
        )
    return (len(data_preprocessor(cfg).get('mean') or 'RGB'), *size)


def data_preprocessor(cfg: Config) -> dict:
    """Returns the settings of a model's data preprocessor, which mmpretrain keeps beside it."""
    return (cfg.get('model') or {}).get('data_preprocessor') or cfg.get('data_preprocessor') or {}


def recipe_size(cfg: Config) -> tuple[int, int] | None:
    """Returns the height and width in pixels at which a recipe tests, where it tells."""
    steps = {type_name(step): step for step in steps_of(cfg, 'test')}
    preprocessor = data_preprocessor(cfg)
    task = TASKS.get(cfg.get('default_scope'))
    if task == 'segmentation':
        # Tested as a whole image or in windows: the field counts at the size of training.
        return height_width(preprocessor.get('size') or cfg.get('crop_size'), width_first=False)
    if task == 'pose':
        affine = steps.get('TopdownAffine') or cfg.get('codec') or {}
        return height_width(affine.get('input_size'))
    if task == 'detection':
        size = height_width((steps.get('Resize') or {}).get('scale'))
        divisor = preprocessor.get('pad_size_divisor', 1)
        return size and tuple(-(-side // divisor) * divisor for side in sorted(size))
    for name, key in (('CenterCrop', 'crop_size'), ('Resize', 'scale')):
        if name in steps:
            return height_width(steps[name].get(key))
    return None if steps else view_size(cfg)


def view_size(cfg: Config) -> tuple[int, int] | None:
    """Returns the height and width of the views of a self-supervised recipe, which has no test."""
    for step in steps_of(cfg, 'train'):
        if type_name(step) == 'MultiView':
            crops = [view for view in step['transforms'][0] if 'Crop' in type_name(view)]
            return height_width(crops[0].get('scale')) if crops else None
    return None


def steps_of(cfg: Config, mode: str) -> list[dict]:
    """Returns the transforms of the first data set of a recipe for 'train' or 'test'."""
    dataset = (cfg.get(f'{mode}_dataloader') or {}).get('dataset')
    return (next(leaf_configs(dataset)).get('pipeline') or []) if dataset else []


def height_width(
    size: int | tuple[int, int] | None, width_first: bool = True
) -> tuple[int, int] | None:
    """Returns height and width of a config's size, which is one side or two."""
    if not size:
        return None
    first, second = (size, size) if isinstance(size, int) else size
    return (second, first) if width_first else (first, second)


def find_recipes(paths: Sequence[str | Path]) -> list[Path]:
    """Returns config files, and those in folders at any depth except in `_base_`, each once.

    Of several paths of one file the first is returned.

    Raises:
        InputError: If a file is missing or a folder holds no recipe.
    """
    files: dict[Path, Path] = {}
    for path in map(Path, paths):
        found = [path]
        if path.is_dir():
            found = [p for p in path.rglob('*.py') if '_base_' not in p.relative_to(path).parts]
            if not found:
                raise InputError(f'no recipe (*.py) in {path}')
        elif not path.is_file():
            raise InputError(f'no config and no folder of configs: {path}')
        for recipe in sorted(found):
            files.setdefault(recipe.resolve(), recipe)
    return list(files.values())
