"""Data of a training, damaged: COCO's JSON, lists of labels, label maps."""

import copy
import json
import random
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from checked_sets import SETS, CheckedSet
from mmengine.config import Config
from mmengine.registry import METRICS, DefaultScope

from fuzzing.kind import Kind
from fuzzing.mutations import mutate_bytes
from scopevit.engine.explain import input_errors
from scopevit.engine.runner import CheckedRunner
from scopevit.engine.trust import reading_pickles
from scopevit.preflight.quick import check_quickly

STEPS = {
    'mmdet': [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='PackDetInputs'),
    ],
    'mmpose': [
        dict(type='LoadImage'),
        dict(type='GetBBoxCenterScale'),
        dict(type='TopdownAffine', input_size=(32, 32)),
        dict(
            type='GenerateTarget',
            encoder=dict(type='MSRAHeatmap', input_size=(32, 32), heatmap_size=(8, 8), sigma=2),
        ),
        dict(type='PackPoseInputs'),
    ],
    'mmseg': [
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs'),
    ],
    'mmpretrain': [dict(type='LoadImageFromFile'), dict(type='PackInputs')],
}  # fmt: skip
CLASSES = dict(classification=3, detection=2, segmentation=3)
OUTLINE = [[20, 10, 38, 10, 38, 26, 20, 26]]
RUNS = dict(size=[48, 64], counts=[970, 16, 32, 16, 32, 16, 1990])


class TrainedSet(Kind):
    """Data of a training, as `scopevit train` checks and loads them."""

    task = 'detection'

    @cached_property
    def data(self) -> CheckedSet:
        made = SETS[self.task](self.folder)
        for split in ('train', 'val'):
            steps = copy.deepcopy(STEPS[made.cfg['default_scope']])
            made.cfg[f'{split}_dataloader']['dataset']['pipeline'] = steps
            (self.folder / f'{split}.json').write_text(json.dumps(made.coco.get(split)))
        return made

    def model(self) -> torch.nn.Module:
        """Returns what the checks look at of a model."""
        model, head = torch.nn.Module(), torch.nn.Module()
        head.num_classes = CLASSES.get(self.task)
        model.add_module('head', head)
        return model

    @property
    def dataset(self) -> dict[str, Any]:
        return self.data.cfg['train_dataloader']['dataset']

    def load(self, split: str = 'train') -> list[Any]:
        """Checks the data sets as a training does, and loads all samples of one."""
        cfg = Config(copy.deepcopy(self.data.cfg))
        with reading_pickles(False), input_errors('damaged.py'):
            check_quickly(cfg, 'damaged.py')
            with DefaultScope.overwrite_default_scope(cfg.default_scope):
                loader = dict(
                    batch_size=1, num_workers=0, dataset=cfg[f'{split}_dataloader'].dataset,
                    sampler=dict(type='DefaultSampler', shuffle=False),
                    collate_fn=dict(type='pseudo_collate'),
                )  # fmt: skip
                runner: Any = SimpleNamespace(model=self.model())
                loop = CheckedRunner._build_checked(
                    runner,
                    lambda cfg: SimpleNamespace(  # type: ignore[arg-type, return-value]
                        dataloader=CheckedRunner.build_dataloader(cfg, seed=0)
                    ),
                    loader,
                    f'{split}_dataloader',
                )
                return [batch for batch in loop.dataloader]


class CocoFile(TrainedSet):
    """COCO's JSON of boxes and masks, to train on or to validate on."""

    names = ('damaged', '.png', 'dataloader', 'cannot load')

    @cached_property
    def contents(self) -> dict[str, Any]:
        contents = copy.deepcopy(self.data.coco)
        for content in contents.values():
            for annotation, mask in zip(content['annotations'], (OUTLINE, RUNS, OUTLINE)):
                annotation['segmentation'] = mask
            content['annotations'].append(dict(content['annotations'][1], id=9, iscrowd=1))
        return contents

    def take(self, chance: random.Random) -> None:
        self.damage(self.contents, chance)

    def damage(self, contents: dict[str, Any], chance: random.Random) -> None:
        """Damages the file of a split, and trains or validates."""
        path = self.folder / 'damaged.json'
        split = chance.choice(['train', 'val'])
        self.write_json(path, contents[split], chance)
        cfg = self.data.cfg
        for name in ('train', 'val'):
            file = path.name if name == split else f'{name}.json'
            cfg[f'{name}_dataloader']['dataset']['ann_file'] = file
        cfg['val_evaluator']['ann_file'] = str(self.folder / file)
        batches = self.load(split)
        if split == 'val':
            self.validate(path, batches)

    def validate(self, path: Path, batches: list[Any]) -> None:
        """Tests with what is annotated in the place of predictions."""
        with DefaultScope.overwrite_default_scope('mmdet'):
            metric = METRICS.build(dict(type='CocoMetric', ann_file=str(path), metric='bbox'))
            metric.dataset_meta = dict(classes=('cat', 'dog'))
            samples = []
            for batch in batches:
                sample = batch['data_samples'][0].to_dict()
                boxes = sample['gt_instances']['bboxes'].tensor
                labels = sample['gt_instances']['labels']
                found = dict(bboxes=boxes, labels=labels, scores=torch.ones(len(boxes)))
                samples.append(sample | dict(pred_instances=found))
            metric.process({}, samples)
            metric.evaluate(size=len(samples))


class Keypoints(CocoFile):
    """COCO's JSON of keypoints."""

    task = 'pose'

    def take(self, chance: random.Random) -> None:
        self.damage(self.data.coco, chance)

    def validate(self, path: Path, batches: list[Any]) -> None:
        from mmpose.datasets.datasets.utils import parse_pose_metainfo

        with DefaultScope.overwrite_default_scope('mmpose'):
            metric = METRICS.build(dict(type='CocoMetric', ann_file=str(path)))
            metric.dataset_meta = parse_pose_metainfo(self.dataset['metainfo'])
            samples = []
            for batch in batches:
                sample = batch['data_samples'][0].to_dict()
                points = sample['gt_instances']['keypoints']
                found = dict(keypoints=points, keypoint_scores=np.ones(points.shape[:2]))
                samples.append(sample | dict(pred_instances=found))
            metric.process({}, samples)
            metric.evaluate(size=len(samples))


class LabelList(TrainedSet):
    """A text with an image and the number of its class a line."""

    task = 'classification'

    def take(self, chance: random.Random) -> None:
        path = self.folder / 'damaged.txt'
        lines = [f'train{i}.png {i}\n' for i in range(3)]
        self.write_text(path, ''.join(lines), chance)
        self.dataset['ann_file'] = path.name
        self.load()

    names = ('damaged', '.png', 'cannot load')  # a label is told with its image


class LabelMap(TrainedSet):
    """Label maps of a segmentation, one of them damaged."""

    task = 'segmentation'
    names = ('train0.png', 'train_dataloader')

    def take(self, chance: random.Random) -> None:
        path = self.data.folder / 'train_maps' / 'train0.png'
        path.write_bytes(damaged_map(chance))
        self.load()


def damaged_map(chance: random.Random) -> bytes:
    """Returns a label map of another size, type or labels, or with other bytes."""
    labels = np.arange(3 * 64).reshape(3, 64).repeat(16, axis=0) % 3
    kind = chance.randrange(6)
    if kind == 0:
        labels = labels[: chance.randrange(1, 48), : chance.randrange(1, 64)]
    elif kind == 1:
        labels[chance.randrange(48), chance.randrange(64)] = chance.choice([3, 7, 254, 255, 65_535])
    elif kind == 2:
        labels = np.stack([labels] * chance.choice([3, 4]), axis=-1)
    wide = labels.max() > 255 or chance.random() < 0.1
    content = cv2.imencode('.png', labels.astype(np.uint16 if wide else np.uint8))[1].tobytes()
    return mutate_bytes(content, chance) if kind > 3 else content
