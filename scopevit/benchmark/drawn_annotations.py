"""Photographs in place of a data set, with annotations drawn at random."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config

from scopevit.engine.walk import type_name
from scopevit.errors import InputError
from scopevit.inference.sources import open_sources

OBJECTS = 7  # of an image, as COCO's have on average
SHARES = (0.01, 0.3)  # of the image's sides, at least and at most: from small to large
CORNERS = 24  # of a polygon
SEGMENTS = 16  # of a label map
CLASSES = 80  # labels are below that
SCOPES = ('mmpretrain', 'mmdet', 'mmseg')  # of what can be drawn


def photographs(images: str, cfg: Config) -> list[str]:
    """Returns paths of images in a folder.

    Raises:
        InputError: If there are none, or the recipe needs what cannot be drawn on them.
    """
    if cfg.default_scope not in SCOPES:
        raise InputError(
            f'--images {images}: photographs come without the keypoints that {cfg.filename} '
            'loads; name its data set by --cfg-options train_dataloader.dataset.data_root=...'
        )
    items = [item for source in open_sources(images) for item in source.items(0)]
    paths = [str(item.path) for item in items if not isinstance(item, InputError) and item.path]
    found = [path for path in paths if cv2.haveImageReader(path)]
    if not found:
        raise InputError(f'--images takes images, and {images} has none')
    return found


def annotate(paths: Sequence[str], cfg: Config, folder: Path) -> list[dict[str, Any]]:
    """Returns photographs as samples of a recipe's data set, with annotations drawn from a seed.

    Args:
        paths: Of the photographs.
        cfg: The recipe, of classification, detection or semantic segmentation.
        folder: For label maps, of semantic segmentation.
    """
    generator = np.random.default_rng(0)
    if cfg.default_scope == 'mmpretrain':
        return [dict(img_path=path, gt_label=0, sample_idx=i) for i, path in enumerate(paths)]
    if cfg.default_scope == 'mmdet':
        return [objects(path, i, generator) for i, path in enumerate(paths)]
    loading = [
        step
        for step in cfg.train_dataloader.dataset.pipeline
        if type_name(step) == 'LoadAnnotations'
    ]
    is_reduced = bool(loading and loading[0].get('reduce_zero_label'))
    return [label_map(path, folder, is_reduced, generator) for path in paths]


def image_size(path: str) -> tuple[int, int]:
    """Returns height and width of an image.

    Raises:
        InputError: If it is damaged.
    """
    image = cv2.imread(path)
    if image is None:
        raise InputError(f'--images: cannot read {path}')
    return image.shape[0], image.shape[1]


def polygon(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Returns a star-shaped polygon in an image, (CORNERS, 2) as x and y."""
    low, high = np.log(SHARES)
    radii = np.exp(generator.uniform(low, high, 2)) * (width, height)
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    lengths = generator.uniform(0.6, 1, CORNERS)
    star = lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    centre = generator.uniform(0, 1, 2) * (width, height)
    return np.clip(centre + radii * star, 0, (width - 1, height - 1))


def objects(path: str, number: int, generator: np.random.Generator) -> dict[str, Any]:
    """Returns a photograph with objects as polygons and boxes, as mmdet's data sets give them."""
    height, width = image_size(path)
    instances = []
    for _ in range(OBJECTS):
        corners = polygon(height, width, generator)
        box = [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]
        label = int(generator.integers(CLASSES))
        instances.append(
            dict(bbox=box, bbox_label=label, ignore_flag=0, mask=[corners.ravel().tolist()])
        )
    return dict(img_path=path, img_id=number, height=height, width=width, instances=instances)


def label_map(
    path: str, folder: Path, is_reduced: bool, generator: np.random.Generator
) -> dict[str, Any]:
    """Writes the label map of a photograph; returns both as mmseg's data sets give them."""
    height, width = image_size(path)
    # Each pixel has the label of the point next to it.
    points = generator.uniform(0, 1, (SEGMENTS, 2)) * (height, width)
    rows, columns = (np.arange(size)[:, None] for size in (height, width))
    across, along = (rows - points[:, 0]) ** 2, (columns - points[:, 1]) ** 2
    nearest = (across[:, None] + along[None]).argmin(axis=2)  # (H, W, SEGMENTS) -> (H, W)
    labels = generator.integers(0, CLASSES, SEGMENTS).astype(np.uint8)[nearest]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f'{Path(path).stem}.png'
    cv2.imwrite(str(target), labels)
    return dict(
        img_path=path,
        seg_map_path=str(target),
        label_map=None,
        reduce_zero_label=is_reduced,
        seg_fields=[],
    )
