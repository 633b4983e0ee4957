"""Steps of the COCO recipes: the samples of mmdet's, of the same random numbers."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.cbook
import mmdet.datasets  # noqa: F401  registers the steps
import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DefaultScope

from scopevit.benchmark.data_speed import build_pipelines
from scopevit.benchmark.drawn_annotations import objects
from scopevit.engine.config import read_config
from scopevit.engine.walk import type_name
from scopevit.transforms.detection import source_places

CONFIGS = Path(__file__).parents[2] / 'configs/detection'
PHOTOGRAPH = matplotlib.cbook.get_sample_data('grace_hopper.jpg', asfileobj=False)
RECIPES = [
    'mask-rcnn_scopevit-tiny_fpn_1x_coco',
    'mask-rcnn_scopevit-tiny_fpn_ms-3x_coco',
    'retinanet_scopevit-tiny_fpn_1x_coco',
    'peers/mask-rcnn_resnet50_fpn_1x_coco',
    '../_base_/own_data/mask-rcnn',
    '../_base_/own_data/retinanet',
]


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    """What other tests left as the default."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def drawn(number: int) -> dict[str, Any]:
    return objects(str(PHOTOGRAPH), number, np.random.default_rng(number))


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys() == {'inputs', 'data_samples'}
    assert ours['inputs'].equal(theirs['inputs']) and ours['inputs'].is_contiguous()
    one, other = ours['data_samples'], theirs['data_samples']
    assert one.metainfo.keys() == other.metainfo.keys()
    for key, value in other.metainfo.items():
        assert np.array_equal(one.metainfo[key], value), key
    for name in ('gt_instances', 'ignored_instances'):
        a, b = one.get(name), other.get(name)
        assert set(a.keys()) == set(b.keys()) and len(a) == len(b)
        for key in set(b.keys()):
            if key == 'masks':
                assert type(a.masks) is type(b.masks) is BitmapMasks
                assert np.array_equal(a.masks.masks, b.masks.masks)
                assert (a.masks.height, a.masks.width) == (b.masks.height, b.masks.width)
            else:
                first, second = (getattr(v, 'tensor', v) for v in (a[key], b[key]))
                assert first.equal(second), key


@pytest.mark.parametrize('recipe', RECIPES)
def test_samples_of_the_recipes(recipe: str) -> None:
    cfg = read_config(CONFIGS / f'{recipe}.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        ours, theirs = build_pipelines(cfg)
    flips = set()
    for number in range(8):
        info = drawn(number)
        if number == 1:
            info['instances'][2]['mask'] = [[1.0, 2.0]]  # no polygon, so it is ignored
        if number == 2:
            info['instances'] = info['instances'][:1]
        if number == 3:  # nothing in it
            info['instances'][0]['mask'] = [[3.2, 3.2, 3.3, 3.2, 3.3, 3.3]]
        sample = ours.load(info, (0, number))
        assert_same(sample, theirs.load(info, (0, number)))
        flips.add(sample['data_samples'].flip)
    assert flips == {True, False}


def test_samples_without_objects() -> None:
    cfg = read_config(CONFIGS / f'{RECIPES[0]}.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        ours, theirs = build_pipelines(cfg)
    info = {**drawn(0), 'instances': []}
    for number in range(4):
        assert_same(ours.load(info, (0, number)), theirs.load(info, (0, number)))


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_flips(direction: str) -> None:
    masks = np.zeros((3, 7, 9), np.uint8)
    masks[0, 1:3, 2:8], masks[1, 6, 8] = 1, 1  # and one that is empty
    given = dict(img=np.arange(189, dtype=np.uint8).reshape(7, 9, 3),
                 gt_masks=BitmapMasks(masks, 7, 9))  # fmt: skip
    results = []
    for name in ('RandomFlip', 'scopevit/RandomFlip'):
        step = TRANSFORMS.build(dict(type=name, prob=1.0, direction=direction))
        results.append(step(copy.deepcopy(given)))
    theirs, ours = results
    assert np.array_equal(ours['img'], theirs['img'])
    assert np.array_equal(ours['gt_masks'].masks, theirs['gt_masks'].masks)


@pytest.mark.parametrize('scale', [(13, 8), (40, 30), (1333, 800)])
@pytest.mark.parametrize('keep_ratio', [True, False])
def test_resized_masks(scale: tuple[int, int], keep_ratio: bool) -> None:
    generator = np.random.default_rng(0)
    masks = (generator.random((4, 21, 29)) < 0.1).astype(np.uint8)
    masks[1, :, 3:], masks[2], masks[3, 5:, 7:] = 0, 0, 1
    given = dict(img=np.zeros((21, 29, 3), np.uint8), gt_masks=BitmapMasks(masks, 21, 29))
    theirs, ours = (
        TRANSFORMS.build(dict(type=name, scale=scale, keep_ratio=keep_ratio))(copy.deepcopy(given))
        for name in ('Resize', 'scopevit/Resize')
    )
    assert np.array_equal(ours['gt_masks'].masks, theirs['gt_masks'].masks)
    assert ours['gt_masks'].masks.shape[1:] == ours['img_shape']


def test_nearest_places() -> None:
    # OpenCV takes the one to the left of old / new times the new place.
    assert source_places(4, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert source_places(6, 4).tolist() == [0, 1, 3, 4]


def test_recipes_have_these_steps() -> None:
    paths = [*CONFIGS.rglob('mask-rcnn*coco.py'), *CONFIGS.rglob('retinanet*coco.py')]
    assert len(paths) >= 9
    for path in paths:
        steps = read_config(path).train_dataloader.dataset.pipeline
        plain = [type_name(step) for step in steps if not step['type'].startswith('scopevit/')]
        assert plain in (['LoadImageFromFile'], ['LoadImageFromFile', 'RandomChoiceResize']), path
