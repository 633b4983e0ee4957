"""Whether a metric compares with the annotations of its split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from scopevit.engine.checks.coco import CocoFile, read_coco
from scopevit.engine.walk import type_name
from scopevit.preflight.findings import Finding
from scopevit.preflight.samples import Part


def check_metrics(cfg: Config, parts: list[Part]) -> Iterator[Finding]:
    """Yields metrics whose annotation file is not that of their data set, or lacks keys."""
    for split in ('val', 'test'):
        own = [part for part in parts if part.split == split and part.coco is not None]
        metrics = cfg.get(f'{split}_evaluator') or []
        for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
            path = metric.get('ann_file')
            if not isinstance(path, str) or not own or not Path(path).is_file():
                continue
            key = f'{split}_evaluator.ann_file'
            coco = read_coco(Path(path), key)
            if type_name(metric) == 'CocoMetric':
                yield from check_keys(coco, path, split, needed_keys(metric, cfg.default_scope))
            if len(own) == 1 and Path(path).resolve() != Path(own[0].ann_file).resolve():
                yield from compare(own[0], coco, path, key)


def needed_keys(metric: dict[str, Any], scope: str) -> list[str]:
    """Returns the keys of annotations that COCO's evaluation reads."""
    if scope != 'mmpose':
        return ['area', 'iscrowd']
    return ['area'] * metric.get('use_area', True) + ['iscrowd', 'keypoints', 'num_keypoints']


def check_keys(coco: CocoFile, path: str, split: str, names: list[str]) -> Iterator[Finding]:
    """Yields keys that annotations lack and the evaluation reads, after the first epoch."""
    for name in names:
        if coco.lacking.get(name):
            right = 'make it 0 or 1' if name == 'iscrowd' else 'add it'
            text = f'{path}: annotations have no {name}, which the evaluation reads: {right}'
            yield Finding('error', f'no {name}', split, coco.lacking[name], text)


def compare(part: Part, other: CocoFile, path: str, key: str) -> Iterator[Finding]:
    """Yields what another file says of the images of a part."""
    coco = part.coco
    assert coco is not None
    names = dict(zip(other.image_ids, other.file_names))
    wrong = [i for i, name in zip(coco.image_ids, coco.file_names) if names.get(i) != name]
    told = f'{key} is {path}, but {part.key} reads {part.ann_file}'
    if wrong:
        text = f'{told}: image {wrong[0]} is another there, or none; both must be one file'
        yield Finding('error', 'metric of other images', part.split, len(wrong), text)
    elif list(coco.categories.items()) != list(other.categories.items()):
        text = f'{told}: its categories are others; both must be one file'
        yield Finding('error', 'metric of other classes', part.split, 1, text)
    elif len(other.ids) != len(coco.ids) or not np.array_equal(
        np.nan_to_num(other.boxes), np.nan_to_num(coco.boxes)
    ):
        text = f'{told}: its annotations are others ({len(other.ids)} and {len(coco.ids)})'
        yield Finding('warning', 'metric of other annotations', part.split, 1, text)
