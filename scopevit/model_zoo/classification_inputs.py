"""What is fed to the models of mmpretrain: images that went through a config's own pipeline."""

import copy
import inspect
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, default_collate
from mmengine.registry import TRANSFORMS
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch.nn.functional import interpolate

from scopevit.engine.walk import type_name

IMAGES = 2
CLASSES = 2  # of an image, where it may have several
SIZE = (256, 224)  # of the images before the pipeline, in pixels
SMALL = 128
# Arguments of backbones that take images of one size, and others that do without saying so.
SIZE_ARGUMENTS = ('img_size', 'image_size', 'input_size', 'resolution', 'input_resolution')
ONE_SIZE = ('Conformer', 'EfficientFormer', 'HorNet', 'InceptionV3', 'LeNet5', 'LeViT',
            'PyramidVig', 'TNT', 'T2T_ViT', 'VGG', 'Vig', 'XCiT')  # fmt: skip


def shrink(cfg: Config) -> None:
    """Puts random features in the place of the images that a model looks for similar ones in."""
    if cfg.model.get('prototype'):
        cfg.model.prototype = torch.rand(3, cfg.model.head.in_channels)


def make_inputs(cfg: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a batch to train with and one to predict."""
    train_data = (cfg.get('train_dataloader') or cfg.test_dataloader).dataset
    test_data = (cfg.get('test_dataloader') or cfg.train_dataloader).dataset
    train, test = make_batch(cfg, train_data), make_batch(cfg, test_data)
    if is_classifier(cfg) and not is_of_one_size(cfg):
        train, test = make_small(train), make_small(test)
    return train, test


def make_batch(cfg: Config, dataset: Any) -> dict[str, Any]:
    """Returns random images after the pipeline of a data set.

    Returns:
        'inputs' (N, C, H, W), or a list of such views, and 'data_samples'.
    """
    pipeline = Compose([
        TRANSFORMS.build(step) for step in copy.deepcopy(find_pipeline(dataset))
        if not type_name(step).startswith('LoadImage')
    ])  # fmt: skip
    samples = [pipeline(make_sample(cfg, index)) for index in range(IMAGES)]
    for sample in samples:
        if not isinstance(sample.get('data_samples', 0), DataSample):
            continue
        add_scores(cfg, sample['data_samples'])
    batch: dict[str, Any] = default_collate(samples)  # as the library's own tool sets it
    return batch


def find_pipeline(dataset: Any) -> list[Any]:
    """Returns the pipeline of a data set, or of the first that others hold."""
    if dataset.get('pipeline'):
        return dataset.pipeline
    inner = dataset.get('dataset') or dataset.get('datasets', [{}])[0]
    return find_pipeline(inner)


def make_sample(cfg: Config, index: int) -> dict[str, Any]:
    """Returns an image of random colours, as the library's `LoadImageFromFile` gives it."""
    channels = len((cfg.model.get('data_preprocessor') or {}).get('mean') or [0] * 3)
    shape = (*SIZE, channels) if channels > 1 else SIZE
    image = np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
    return {
        'img': image,
        'img_shape': SIZE,
        'ori_shape': SIZE,
        'img_path': f'{index}.png',
        'sample_idx': index,
        'gt_label': np.array(index, dtype=np.int64),
    }


def add_scores(cfg: Config, sample: DataSample) -> None:
    """Makes a label the scores of all classes, where the head takes several classes an image."""
    head = cfg.model.get('head') or ConfigDict()
    kind = type_name(head) if head.get('type') else ''
    if kind.startswith(('MultiLabel', 'CSRA')):
        scores = torch.zeros(head.num_classes)
        scores[:CLASSES] = 1
        sample.set_gt_score(scores)


def is_classifier(cfg: Config) -> bool:
    """Whether the model takes one image at a time and names its class."""
    return type_name(cfg.model) == 'ImageClassifier'


def is_of_one_size(cfg: Config) -> bool:
    """Whether the backbone takes images of its own size only."""
    backbone = cfg.model.backbone
    name = type_name(backbone)
    if name in ONE_SIZE or not isinstance(backbone.type, str):
        return True
    cls = MODELS.get(backbone.type)
    arguments = inspect.signature(cls).parameters if cls else ()
    return cls is None or any(name in arguments for name in SIZE_ARGUMENTS)


def make_small(batch: dict[str, Any]) -> dict[str, Any]:
    """Returns a batch whose images are scaled to a side of 128 pixels, unless they are smaller."""
    images = batch['inputs']
    if max(images.shape[-2:]) <= SMALL:
        return batch
    return {**batch, 'inputs': interpolate(images.float(), (SMALL, SMALL)).to(images.dtype)}
