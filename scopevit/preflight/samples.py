"""What the data sets of a config hold, in one form for all libraries."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from scopevit.engine.checks.coco import CocoFile, read_coco
from scopevit.engine.walk import leaf_configs, type_name
from scopevit.errors import InputError, error_text
from scopevit.preflight.findings import Finding

SPLITS = ('train', 'val', 'test')
SHOWN_FILES = 8
UNREAD = 'data set'


@dataclass(eq=False)
class Part:
    """A data set without wrappers.

    Attributes:
        split: 'train', 'val' or 'test'.
        scope: The library.
        cfg: Its config.
        key: Where it is in the config, for messages.
        ann_file: File of its annotations; '' where there is none.
        classes: What the config calls its labels; of poses, the keypoints.
        meanings: What the data call them, in the order of the labels, where they say it.
        palette: Colours of the labels, RGB, where the data set has some.
        files: Path of every image; '' for one that is in no file of its own.
        arrays: Pixels of these.
        maps: Label map of every image, in segmentation.
        reduces: Whether label 0 on these is left out, and the others are one less.
        ignored: Label on these that is left out.
        renumbered: New labels by old ones, where the config takes some classes of the data set's.
        sizes: Annotated width and height of every image, (N, 2), 0 where they are not told.
        owners: Row of the image of every annotation, (M,).
        labels: Class of every annotation, -1 where it is none, (M,).
        boxes: xywh of every annotation, (M, 4), NaN for none.
        crowds: Whether an annotation counts neither for nor against a detector, (M,).
        keypoints: x, y and visibility, (M, K, 3).
        coco: The file that all this comes from, where it is COCO's.
    """

    split: str
    scope: str
    cfg: dict[str, Any]
    key: str
    ann_file: str = ''
    classes: tuple[str, ...] = ()
    meanings: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    files: list[str] = field(default_factory=list)
    arrays: list[np.ndarray] = field(default_factory=list)
    maps: list[str] = field(default_factory=list)
    reduces: bool = False
    ignored: int = 255
    renumbered: dict[int, int] = field(default_factory=dict)
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    owners: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    boxes: np.ndarray | None = None
    crowds: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    coco: CocoFile | None = None

    def counts(self) -> np.ndarray:
        """Returns how many annotations each class has, (C,)."""
        if self.scope == 'mmpose':
            if self.keypoints is None:
                return np.zeros(len(self.classes), np.int64)
            return (self.keypoints[..., 2] > 0).sum(0)
        valid = self.labels[(self.labels >= 0) & (self.labels < len(self.classes))]
        return np.bincount(valid, minlength=len(self.classes))

    def image(self, annotation: int) -> str:
        """Returns the image of an annotation."""
        return self.files[self.owners[annotation]]

    def images(self, chosen: np.ndarray) -> tuple[str, ...]:
        """Returns the images of the first annotations that are chosen, (M,) bool."""
        rows = dict.fromkeys(self.owners[chosen].tolist())  # in their order, each once
        return tuple(self.files[row] for row in islice(rows, SHOWN_FILES))

    @cached_property
    def box_sizes(self) -> np.ndarray:
        """Width and height of the image of every annotation, (M, 2)."""
        return self.sizes[self.owners]


def split_configs(cfg: Config, splits: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the config of the data set of each split; that of test only if it is not val's."""
    seen: list[dict[str, Any]] = []
    for split in splits:
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        if not dataset or (split == 'test' and dataset in seen):
            continue
        seen.append(dataset)
        yield split, dataset


def read_parts(split: str, dataset: dict[str, Any], scope: str) -> Iterator[Part | Finding]:
    """Yields the parts of a split that can be read, and what is wrong with the others."""
    for leaf in leaf_configs(dataset):
        if 'type' not in leaf:
            continue
        try:
            yield read_part(split, leaf, scope)
        except CannotBuild as error:
            # A training may be able to, or says why not.
            yield Finding('warning', UNREAD, split, 1, f'not checked: {error_text(error)}')
        except InputError as error:
            yield Finding('error', UNREAD, split, 1, error_text(error))


class CannotBuild(InputError):
    """A data set takes other arguments than those of all libraries."""


def read_part(split: str, cfg: dict[str, Any], scope: str) -> Part:
    """Reads a data set without wrappers: COCO's file as it is, anything else by its library.

    Raises:
        InputError: If it cannot be read.
    """
    part = Part(split, scope, cfg, f'{split}_dataloader.dataset')
    with DefaultScope.overwrite_default_scope(scope):
        dataset = build_lazily(cfg, part.key)
        part.ann_file = str(getattr(dataset, 'ann_file', '') or '')
        metainfo = dataset.metainfo
        part.classes = tuple(map(str, metainfo.get('classes') or ()))
        part.palette = palette_of(metainfo)
        if scope == 'mmpose':
            names = metainfo.get('keypoint_id2name') or {}
            part.classes = tuple(str(names[i]) for i in sorted(names))
        if reads_coco(dataset) and Path(part.ann_file).is_file():
            coco = read_coco(Path(part.ann_file), f'{part.key}.ann_file')
            if coco.is_coco:
                fill_from_coco(part, coco, str(dataset.data_prefix.get('img') or ''))
                return part
        fill_from_library(part, dataset)
    return part


def palette_of(metainfo: dict[str, Any]) -> tuple[tuple[int, int, int], ...]:
    """Returns the colours of a data set; none where it leaves them to chance."""
    palette = metainfo.get('palette')
    if not isinstance(palette, (list, tuple)):
        return ()
    try:
        return tuple((int(r), int(g), int(b)) for r, g, b in palette)
    except (TypeError, ValueError):  # names of colours, say, which only draws take
        return ()


def build_lazily(cfg: dict[str, Any], key: str) -> Any:
    """Builds a data set that loads nothing yet.

    Raises:
        CannotBuild: If it is not to be built so.
    """
    # Boxes of a detector stand beside the annotations, and need the mode of a test.
    settings = {k: v for k, v in cfg.items() if k not in ('bbox_file', 'lazy_init')}
    settings |= dict(pipeline=[], lazy_init=True)
    try:
        return DATASETS.build(dict(settings, serialize_data=False))
    # Whatever a data set says to an argument.
    except (AssertionError, AttributeError, KeyError, OSError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        raise CannotBuild(f'{key}: cannot build {type_name(cfg)}: {error}') from error


def reads_coco(dataset: Any) -> bool:
    """Returns whether a data set reads COCO's file as its library's base class does."""
    for module, name in (('mmdet', 'CocoDataset'), ('mmpose', 'BaseCocoStyleDataset')):
        for kind in type(dataset).__mro__:
            if kind.__name__ == name and kind.__module__.startswith(module):
                same = ('load_data_list', 'parse_data_info')
                return all(getattr(type(dataset), f) is getattr(kind, f) for f in same)
    return False


def fill_from_coco(part: Part, coco: CocoFile, folder: str) -> None:
    """Fills in what a COCO file says of its images and annotations."""
    part.coco = coco
    part.files = [os.path.join(folder, name) for name in coco.file_names]
    part.sizes = np.nan_to_num(coco.sizes)
    known = coco.owners >= 0
    part.owners = coco.owners[known]
    part.boxes, part.crowds = coco.boxes[known], coco.crowds[known]
    part.keypoints = None if coco.keypoints is None else coco.keypoints[known]
    if part.scope == 'mmpose':
        part.labels = np.zeros(len(part.owners), np.int64)
        return
    # mmdet numbers the classes as the file lists them, whatever the order in the config.
    part.meanings = tuple(name for name in coco.categories.values() if name in part.classes)
    index = {
        key: part.classes.index(name)
        for key, name in coco.categories.items()
        if name in part.classes
    }
    labels = np.array([index.get(key, -1) for key in coco.category_ids], np.int64)
    part.labels = labels[known]


def fill_from_library(part: Part, dataset: Any) -> None:
    """Fills in what the library's own data set loads.

    Raises:
        InputError: If it cannot load.
    """
    try:
        dataset.full_init()
    except (AssertionError, AttributeError, KeyError, OSError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        raise InputError(f'{part.key}: {type_name(part.cfg)} cannot load: {error}') from error
    items = dataset.data_list or [dataset.get_data_info(i) for i in range(len(dataset))]
    part.files = [str(item.get('img_path') or '') for item in items]
    part.arrays = [item['img'] for item in items if isinstance(item.get('img'), np.ndarray)]
    part.maps = [
        str(item['seg_map_path'])
        for item in items
        # A panoptic picture has numbers of segments in its colours, and no labels.
        if item.get('seg_map_path') and 'segments_info' not in item
    ]
    part.sizes = np.array([[i.get('width') or 0, i.get('height') or 0] for i in items], float)
    part.sizes = part.sizes.reshape(-1, 2)
    part.reduces = bool(getattr(dataset, 'reduce_zero_label', False))
    part.ignored = int(getattr(dataset, 'ignore_index', part.ignored))
    part.renumbered = getattr(dataset, 'label_map', None) or {}
    folders = getattr(dataset, 'folder_to_idx', None)
    if folders:
        part.meanings = tuple(sorted(folders, key=lambda name: int(folders[name])))
        part.classes = part.classes or part.meanings
    if items and 'gt_label' in items[0]:
        labels = [np.ravel(item.get('gt_label', -1)) for item in items]
        part.owners = np.repeat(np.arange(len(items)), [len(label) for label in labels])
        try:
            part.labels = np.concatenate(labels).astype(np.int64)
        except (OverflowError, TypeError, ValueError) as error:
            raise InputError(f'{part.ann_file or part.key}: labels: {error}') from error
    elif any('instances' in item for item in items):
        fill_from_instances(part, items)


def fill_from_instances(part: Part, items: list[dict[str, Any]]) -> None:
    """Fills in the boxes, which libraries keep as corners."""
    found = [(i, obj) for i, item in enumerate(items) for obj in item.get('instances') or []]
    corners = np.array([obj.get('bbox', [np.nan] * 4) for _, obj in found], float).reshape(-1, 4)
    part.owners = np.array([i for i, _ in found], np.int64)
    part.labels = np.array([obj.get('bbox_label', -1) for _, obj in found], np.int64)
    part.crowds = np.array([bool(obj.get('ignore_flag')) for _, obj in found], bool)
    part.boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def object_sizes(parts: list[Part], split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns width and height of the objects of a split and of their images, each (N, 2)."""
    sizes, image_sizes = [np.zeros((0, 2))], [np.zeros((0, 2))]
    for part in parts:
        if part.split == split and part.boxes is not None:
            good = (part.boxes[:, 2:] > 0).all(1) & (part.box_sizes > 0).all(1)
            good &= part.labels >= 0
            good &= ~part.crowds if part.crowds is not None else good
            sizes.append(part.boxes[good, 2:])
            image_sizes.append(part.box_sizes[good])
    return np.concatenate(sizes), np.concatenate(image_sizes)
