"""Steps of the ADE20K recipes: the samples of mmseg's, of the same random numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.cbook
import mmseg.datasets  # noqa: F401  registers the steps
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmseg.registry import TRANSFORMS

from scopevit.benchmark.data_speed import build_pipelines
from scopevit.benchmark.drawn_annotations import label_map
from scopevit.engine.batches import seed_all
from scopevit.engine.config import read_config

CONFIGS = Path(__file__).parents[2] / 'configs/segmentation'
PHOTOGRAPH = matplotlib.cbook.get_sample_data('grace_hopper.jpg', asfileobj=False)
RECIPES = [
    'fpn_scopevit-tiny_8xb4-80k_ade20k-512x512',
    'upernet_scopevit-tiny_8xb2-160k_ade20k-512x512',
    'peers/fpn_resnet50_8xb4-80k_ade20k-512x512',
    '../_base_/own_data/fpn',
]


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    """What other tests left as the default."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def both(kind: str, **settings: Any) -> tuple[Any, Any]:
    theirs, ours = (
        TRANSFORMS.build(dict(type=name, **settings)) for name in (kind, f'scopevit/{kind}')
    )
    assert type(ours) is not type(theirs)
    return theirs, ours


@pytest.mark.parametrize('recipe', RECIPES)
def test_samples_of_the_recipes(recipe: str, tmp_path: Path) -> None:
    cfg = read_config(CONFIGS / f'{recipe}.py')
    cfg.train_dataloader.dataset.pipeline = cfg.train_pipeline  # a config of own data names it
    with DefaultScope.overwrite_default_scope('mmseg'):
        ours, theirs = build_pipelines(cfg)
    info = label_map(str(PHOTOGRAPH), tmp_path, True, np.random.default_rng(0))
    flips = set()
    for number in range(12):
        one, other = ours.load(info, (0, number)), theirs.load(info, (0, number))
        assert one['inputs'].equal(other['inputs']) and one['inputs'].is_contiguous()
        a, b = one['data_samples'], other['data_samples']
        assert a.gt_sem_seg.data.equal(b.gt_sem_seg.data)
        assert a.gt_sem_seg.data.dtype == b.gt_sem_seg.data.dtype
        assert a.metainfo == b.metainfo
        flips.add(a.flip)
    assert flips == {True, False}


@pytest.mark.parametrize('share', [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize('ratio', [0.75, 1.0])
def test_crops_of_labels_that_are_all_alike(share: float, ratio: float) -> None:
    """A crop is drawn again as often, up to ten times, so that what comes after is the same."""
    labels = np.random.default_rng(0).integers(0, 4, (60, 70), dtype=np.uint8)
    labels[: int(60 * share)] = 7
    labels[:, :9] = 255  # counts for nothing
    theirs, ours = both('RandomCrop', crop_size=(32, 32), cat_max_ratio=ratio)
    for number in range(20):
        found = []
        for step in (theirs, ours):
            seed_all((number,))
            given = dict(img=np.zeros((60, 70, 3), np.uint8), gt_seg_map=labels,
                         seg_fields=['gt_seg_map'])  # fmt: skip
            found.append((step(given)['gt_seg_map'], np.random.random()))
        assert np.array_equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]


@pytest.mark.parametrize('counts', [(100, 0, 0), (75, 25, 0), (74, 26, 0), (60, 10, 30)])
def test_varied_crops(counts: tuple[int, int, int]) -> None:
    """75 of 100 pixels are too many, and those without a label do not count."""
    labels = np.repeat(np.array([3, 9, 255], np.uint8), counts).reshape(10, 10)
    step = both('RandomCrop', crop_size=(10, 10), cat_max_ratio=0.75)[1]
    assert step.is_varied(labels) == (counts == (74, 26, 0))


def test_distorted_colours() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    grey = image.astype(np.float32)
    theirs, ours = both('PhotoMetricDistortion')
    changed = 0
    for number in range(60):
        for given in (image, grey / 255) if number < 5 else (image,):
            found = []
            for step in (theirs, ours):
                seed_all((number,))
                found.append((step(dict(img=given.copy()))['img'], np.random.random()))
            assert np.array_equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
            changed += not np.array_equal(found[0][0], given)
    assert changed > 50
