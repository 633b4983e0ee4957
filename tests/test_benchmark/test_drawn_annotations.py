"""Annotations that are drawn: inside of their images, the same each time, as the libraries load."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from scopevit.benchmark.drawn_annotations import CLASSES, CORNERS, OBJECTS, annotate
from scopevit.errors import InputError

HEIGHT, WIDTH = 40, 60


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    found = [str(tmp_path / name) for name in ('a.png', 'b.png')]
    for path in found:
        cv2.imwrite(path, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return found


def recipe(scope: str, **loading: Any) -> Config:
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', **loading)]
    return Config(dict(default_scope=scope, train_dataloader=dict(dataset=dict(pipeline=steps))))


def test_classes(paths: list[str], tmp_path: Path) -> None:
    assert annotate(paths, recipe('mmpretrain'), tmp_path) == [
        dict(img_path=paths[0], gt_label=0, sample_idx=0),
        dict(img_path=paths[1], gt_label=0, sample_idx=1),
    ]


def test_objects(paths: list[str], tmp_path: Path) -> None:
    samples = annotate(paths, recipe('mmdet'), tmp_path)
    assert samples == annotate(paths, recipe('mmdet'), tmp_path)
    for path, sample in zip(paths, samples, strict=True):
        assert (sample['img_path'], sample['height'], sample['width']) == (path, HEIGHT, WIDTH)
        assert len(sample['instances']) == OBJECTS
        for instance in sample['instances']:
            (corners,) = instance['mask']
            x, y = corners[::2], corners[1::2]
            assert len(x) == len(y) == CORNERS
            assert instance['bbox'] == [min(x), min(y), max(x), max(y)]
            assert 0 <= min(x) <= max(x) < WIDTH and 0 <= min(y) <= max(y) < HEIGHT
            assert 0 <= instance['bbox_label'] < CLASSES
    assert samples[0]['instances'] != samples[1]['instances']


@pytest.mark.parametrize('is_reduced', [True, False])
def test_label_maps(is_reduced: bool, paths: list[str], tmp_path: Path) -> None:
    cfg = recipe('mmseg', **dict(reduce_zero_label=True) if is_reduced else {})
    first, second = annotate(paths, cfg, tmp_path / 'labels')
    assert first['reduce_zero_label'] is second['reduce_zero_label'] is is_reduced
    maps = [cv2.imread(each['seg_map_path'], cv2.IMREAD_UNCHANGED) for each in (first, second)]
    for labels in maps:
        assert labels.shape == (HEIGHT, WIDTH) and labels.max() < CLASSES
        assert len(np.unique(labels)) > 4
    assert not np.array_equal(*maps)


def test_a_damaged_photograph(tmp_path: Path) -> None:
    path = tmp_path / 'a.png'
    path.write_bytes(b'no image')
    with pytest.raises(InputError, match=f'^--images: cannot read {path}$'):
        annotate([str(path)], recipe('mmdet'), tmp_path)
