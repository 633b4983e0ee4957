"""What is fed to the models of mmseg."""

from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from scopevit.engine.walk import type_name
from scopevit.model_zoo.detection_inputs import values

SIZE = (128, 128)
IMAGES = 2
# Backbones whose relative positions or queries are of one size of image.
ONE_SIZE = ('BEiT', 'MAE', 'SideAdapterCLIPHead', 'VPD')


def shrink(cfg: Config) -> None:
    """Has small images padded to their own size, where the recipe pads to that of its crops."""
    preprocessor = cfg.model.get('data_preprocessor') or ConfigDict()
    if preprocessor.get('size') and not is_of_one_size(cfg):
        preprocessor.size = SIZE


def make_inputs(cfg: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a batch to train with and one to predict."""
    size = SIZE
    if is_of_one_size(cfg):
        preprocessor = cfg.model.data_preprocessor
        size = tuple(preprocessor.get('size') or [preprocessor.size_divisor] * 2)
    classes = min(value for value in values(cfg.model, ('num_classes',)) + [255] if value)
    return make_images(size, max(classes, 2), IMAGES), make_images(size, max(classes, 2), 1)


def make_images(size: tuple[int, int], classes: int, number: int) -> dict[str, Any]:
    """Returns images with maps of classes, of edges and of depths.

    Returns:
        'inputs' (uint8, each (3, H, W)) and 'data_samples'.
    """
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(number):
        sample = SegDataSample(metainfo={
            'img_shape': size, 'ori_shape': size, 'pad_shape': size, 'scale_factor': (1.0, 1.0),
            'flip': False, 'flip_direction': None, 'img_path': '',
        })  # fmt: skip
        labels = torch.randint(0, classes, (1, *size), generator=generator)
        sample.gt_sem_seg = PixelData(data=labels)
        edges = torch.randint(0, 2, (1, *size), generator=generator)
        sample.gt_edge_map = PixelData(data=edges)
        depths = 1 + 9 * torch.rand(1, *size, generator=generator)  # metres
        sample.gt_depth_map = PixelData(data=depths)
        samples.append(sample)
    images = torch.randint(0, 256, (number, 3, *size), generator=generator, dtype=torch.uint8)
    return {'inputs': list(images), 'data_samples': samples}


def is_of_one_size(cfg: Config) -> bool:
    """Whether the model takes images of its own size only."""
    backbones = [cfg.model.get('backbone') or {}, cfg.model.get('decode_head') or {}]
    kinds = [type_name(part) for part in backbones if isinstance(part, dict) and part.get('type')]
    return any(kind.startswith(name) for kind in kinds for name in ONE_SIZE)
