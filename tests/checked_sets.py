"""Small data sets for the checks before a training, and their configs; a test spoils them."""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config

from scopevit.engine.libraries import find_library
from scopevit.preflight.data import check_data
from scopevit.preflight.findings import Finding

SPLITS = ('train', 'val')
WIDTH, HEIGHT = 64, 48
POINTS = ('nose', 'left_eye', 'right_eye')


def noise(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


@dataclass
class CheckedSet:
    """Data and the config that reads them.

    Attributes:
        folder: Of all files.
        cfg: The config.
        coco: Content of the COCO files by split, for a test to change.
    """

    folder: Path
    cfg: dict[str, Any]
    coco: dict[str, dict[str, Any]] = field(default_factory=dict)

    def image(self, split: str, i: int) -> Path:
        return self.folder / split / f'{split}{i}.png'

    def findings(self, quick: bool = True) -> list[Finding]:
        for split, content in self.coco.items():
            (self.folder / f'{split}.json').write_text(json.dumps(content))
        find_library(self.cfg['default_scope'])
        return check_data(Config(copy.deepcopy(self.cfg)), quick=quick).findings

    def only(self, quick: bool = True) -> Finding:
        """Returns what is found, which is one thing."""
        found = self.findings(quick)
        assert len(found) == 1, found
        return found[0]


def write_images(folder: Path, count: int = 3) -> None:
    for k, split in enumerate(SPLITS):
        (folder / split).mkdir()
        for i in range(count):
            cv2.imwrite(str(folder / split / f'{split}{i}.png'), noise(10 * k + i))


def loaders(**datasets: dict[str, Any]) -> dict[str, Any]:
    return {f'{split}_dataloader': dict(dataset=cfg) for split, cfg in datasets.items()}


def coco_content(split: str) -> dict[str, Any]:
    """Three images of 64x48 with a box each, of two classes in turn."""
    return dict(
        images=[
            dict(id=i, file_name=f'{split}{i}.png', width=WIDTH, height=HEIGHT) for i in range(3)
        ],
        annotations=[
            dict(
                id=i + 1, image_id=i, category_id=1 + i % 2, bbox=[20, 10, 18, 16], area=288,
                iscrowd=0,
            )
            for i in range(3)
        ],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
    )  # fmt: skip


def detection_set(folder: Path) -> CheckedSet:
    write_images(folder)
    datasets = {
        split: dict(
            type='CocoDataset',
            data_root=str(folder),
            ann_file=f'{split}.json',
            data_prefix=dict(img=split),
            metainfo=dict(classes=('cat', 'dog')),
        )
        for split in SPLITS
    }
    metric = dict(type='CocoMetric', ann_file=str(folder / 'val.json'))
    cfg = dict(default_scope='mmdet', model={}, val_evaluator=metric, **loaders(**datasets))
    return CheckedSet(folder, cfg, {split: coco_content(split) for split in SPLITS})


def pose_set(folder: Path) -> CheckedSet:
    """As the detection set, three keypoints an object: at (30, 20), (34, 18) and (38, 18)."""
    checked = detection_set(folder)
    info = dict(
        dataset_name='animals',
        keypoint_info={
            i: dict(name=name, id=i, color=[255, 0, 0], type='', swap='')
            for i, name in enumerate(POINTS)
        },
        skeleton_info={},
        joint_weights=[1.0] * 3,
        sigmas=[0.05] * 3,
    )
    checked.cfg['default_scope'] = 'mmpose'
    for split in SPLITS:
        checked.cfg[f'{split}_dataloader']['dataset']['metainfo'] = info
        for annotation in checked.coco[split]['annotations']:
            annotation |= dict(keypoints=[30, 20, 2, 34, 18, 2, 38, 18, 1], num_keypoints=3)
    return checked


def segmentation_set(folder: Path, labels: tuple[int, ...] = (0, 1, 2)) -> CheckedSet:
    """Three images a split; their maps have some labels in stripes from the left."""
    write_images(folder)
    stripes = np.array(labels, np.uint8)[np.arange(WIDTH) * len(labels) // WIDTH]
    for split in SPLITS:
        (folder / f'{split}_maps').mkdir()
        for i in range(3):
            path = folder / f'{split}_maps' / f'{split}{i}.png'
            cv2.imwrite(str(path), np.tile(stripes, (HEIGHT, 1)))
    datasets = {
        split: dict(
            type='BaseSegDataset',
            data_root=str(folder),
            img_suffix='.png',
            data_prefix=dict(img_path=split, seg_map_path=f'{split}_maps'),
            metainfo=dict(classes=('ground', 'cat', 'dog')),
        )
        for split in SPLITS
    }
    return CheckedSet(folder, dict(default_scope='mmseg', model={}, **loaders(**datasets)))


def classification_set(folder: Path) -> CheckedSet:
    """Three images a split, listed in a file each, of three classes."""
    write_images(folder)
    for split in SPLITS:
        lines = [f'{split}{i}.png {i}\n' for i in range(3)]
        (folder / f'{split}.txt').write_text(''.join(lines))
    datasets = {
        split: dict(
            type='CustomDataset',
            data_root=str(folder),
            ann_file=f'{split}.txt',
            data_prefix=split,
            metainfo=dict(classes=('cat', 'cow', 'dog')),
        )
        for split in SPLITS
    }
    model = dict(head=dict(num_classes=3))
    return CheckedSet(folder, dict(default_scope='mmpretrain', model=model, **loaders(**datasets)))


SETS = {
    'classification': classification_set,
    'detection': detection_set,
    'segmentation': segmentation_set,
    'pose': pose_set,
}
