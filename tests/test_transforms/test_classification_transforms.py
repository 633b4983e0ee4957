"""Steps of the ImageNet recipe: the samples of mmpretrain's, of the same random numbers."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import matplotlib.cbook
import mmpretrain.datasets  # noqa: F401  registers the steps
import numpy as np
import pytest
import torch
from mmpretrain.datasets.transforms.auto_augment import RANDAUG_POLICIES
from mmpretrain.registry import TRANSFORMS
from scipy.stats import norm
from torch.nn import functional as F

from scopevit.engine.config import read_config
from scopevit.engine.walk import type_name

ROOT = Path(__file__).parents[2]
RECIPE = 'scopevit-tiny_8xb128_in1k'
# Of 512 x 600 pixels (width x height), and of 360 x 440.
PHOTOGRAPHS = [
    Path(matplotlib.cbook.get_sample_data('grace_hopper.jpg', asfileobj=False)),
    sorted((ROOT / 'data/demo/pose/images/train').iterdir())[0],
]
MEAN, STD = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]


def seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def both(kind: str, **settings: Any) -> tuple[Any, Any]:
    """The library's step and ours."""
    names = kind, f'scopevit/{kind}'
    theirs, ours = (TRANSFORMS.build(dict(type=name, **copy.deepcopy(settings))) for name in names)
    assert type(ours) is not type(theirs) and type(ours).__name__ == type(theirs).__name__
    return theirs, ours


def run(step: Callable, image: np.ndarray, number: int) -> dict[str, Any]:
    seed(number)
    return step({'img': image.copy()})


def photograph(size: int | None = None) -> np.ndarray:
    image = cv2.imread(str(PHOTOGRAPHS[0]))
    return image if size is None else np.ascontiguousarray(image[100 : 100 + size, 80 : 80 + size])


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    assert one.shape == other.shape and one.dtype == other.dtype == np.uint8
    return np.abs(one.astype(int) - other)


@pytest.mark.parametrize('index', range(15))
def test_operations_of_randaugment(index: int) -> None:
    policy = RANDAUG_POLICIES['timm_increasing'][index]
    settings = dict(
        policies=[{**policy, 'prob': 0.8}], num_policies=1, magnitude_level=9, magnitude_std='inf',
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    )  # fmt: skip
    theirs, ours = both('RandAugment', **settings)
    moves = policy['type'] in ('Shear', 'Translate')
    unchanged = 0
    for number in range(30):
        image = photograph(200)[: 200 - number]  # of another shape each
        expected = run(theirs, image, number)['img']
        state = np.random.get_state()[1:3]
        found = run(ours, image, number)['img']
        assert all(np.array_equal(a, b) for a, b in zip(state, np.random.get_state()[1:3]))
        assert difference(expected, found).max() <= moves
        assert (difference(expected, found) > 0).mean() < 1e-3
        unchanged += np.array_equal(found, image)
    assert unchanged < 15


@pytest.mark.parametrize('image', [
    np.full((40, 30, 3), 7, np.uint8),
    np.stack([np.full((16, 16), 255, np.uint8), *np.arange(512, dtype=np.uint16).reshape(2, 16, 16)
              .astype(np.uint8)], axis=-1),
])  # fmt: skip
@pytest.mark.parametrize('kind', ['AutoContrast', 'Equalize', 'Contrast'])
def test_images_of_one_level(kind: str, image: np.ndarray) -> None:
    fixed = dict(magnitude=0.5) if kind == 'Contrast' else {}
    theirs, ours = both(kind, prob=1.0, **fixed)
    assert np.array_equal(run(theirs, image, 0)['img'], run(ours, image, 0)['img'])


@pytest.mark.parametrize(('kind', 'settings'), [
    ('Contrast', dict(magnitude=0.5)),
    ('Brightness', dict(magnitude=0.5)),
    ('Shear', dict(magnitude=0.2, interpolation='bicubic', pad_val=0)),
    ('Translate', dict(magnitude=0.2, interpolation='bicubic', pad_val=0)),
])  # fmt: skip
def test_images_of_other_types_go_the_librarys_way(kind: str, settings: dict[str, Any]) -> None:
    theirs, ours = both(kind, prob=1.0, **settings)
    image = photograph(60).astype(np.float32)
    expected, found = (run(step, image, 0)['img'] for step in (theirs, ours))
    assert expected.dtype == found.dtype and np.array_equal(expected, found)


@pytest.mark.parametrize('direction', ['horizontal', 'vertical'])
@pytest.mark.parametrize('kind', ['Shear', 'Translate'])
@pytest.mark.parametrize('magnitude', [0.0, 0.01, 0.5, -0.313, 1.2])
def test_shifts_of_any_length(kind: str, magnitude: float, direction: str) -> None:
    theirs, ours = both(
        kind, magnitude=magnitude, prob=1.0, direction=direction, pad_val=[10, 200, 90],
        interpolation='bicubic', random_negative_prob=0.0,
    )  # fmt: skip
    image = photograph(150)[:, :120]
    found = run(ours, image, 0)['img']
    assert difference(run(theirs, image, 0)['img'], found).max() <= 1
    if kind == 'Translate' and magnitude > 1:
        assert (found == [10, 200, 90]).all()


def test_other_interpolation_is_the_librarys() -> None:
    for kind in ('Shear', 'Translate'):
        theirs, ours = both(kind, magnitude=0.2, prob=1.0, interpolation='bilinear')
        image = photograph(100)
        assert np.array_equal(run(theirs, image, 0)['img'], run(ours, image, 0)['img'])


def crop_of(step: Any, image: np.ndarray, number: int) -> np.ndarray:
    seed(number)
    top, left, height, width = step.rand_crop_params(image)
    return image[top : top + height, left : left + width]


def resize_exactly(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The same filter in double precision, rounded once."""
    pixels = torch.from_numpy(image.astype(float)).permute(2, 0, 1)[None]
    resized = F.interpolate(pixels, size, mode='bicubic', align_corners=False, antialias=True)
    return resized[0].permute(1, 2, 0).numpy().clip(0, 255).round()


def test_crops() -> None:
    theirs, ours = both(
        'RandomResizedCrop', scale=(192, 256), backend='pillow', interpolation='bicubic'
    )
    for path in PHOTOGRAPHS:
        image = cv2.imread(str(path))
        for number in range(40):
            expected, found = run(theirs, image, number), run(ours, image, number)
            # Pillow may go through columns first, torch goes through rows: at sharp edges, what
            # either cuts off at black and white in between is another.
            apart = difference(expected['img'], found['img'])
            assert apart.mean() < 0.3 and (apart > 2).mean() < 5e-3
            exact = resize_exactly(crop_of(theirs, image, number), (192, 256))
            errors = [np.abs(r['img'] - exact).mean() for r in (found, expected)]
            assert errors[0] < errors[1] + 0.01
            assert found['img_shape'] == expected['img_shape'] == (192, 256, 3)
            assert found['img'].flags.c_contiguous


def test_crops_need_antialiasing() -> None:
    for settings in (dict(backend='cv2'), dict(backend='pillow', interpolation='bilinear')):
        with pytest.raises(
            ValueError, match="takes backend='pillow' and interpolation='bicubic', not '"
        ):
            TRANSFORMS.build(dict(type='scopevit/RandomResizedCrop', scale=64, **settings))


@pytest.mark.parametrize(
    ('direction', 'prob'),
    [('horizontal', 0.4), ('vertical', 0.5), ('diagonal', 0.5),
     (['horizontal', 'vertical'], [0.3, 0.3])],
)  # fmt: skip
def test_flips(direction: str | list[str], prob: float | list[float]) -> None:
    theirs, ours = both('RandomFlip', prob=prob, direction=direction)
    image, flips = photograph(64), 0
    for number in range(10):
        expected, drawn = run(theirs, image, number), np.random.rand()
        found = run(ours, image, number)
        assert np.random.rand() == drawn
        assert np.array_equal(expected.pop('img'), found['img'])
        assert found.pop('img').flags.c_contiguous
        assert found == expected
        flips += found['flip']
    assert 0 < flips < 10


def test_erased_areas_are_the_librarys() -> None:
    theirs, ours = both(
        'RandomErasing', erase_prob=0.5, mode='rand', min_area_ratio=0.1, max_area_ratio=1 / 3,
        fill_color=MEAN, fill_std=STD,
    )  # fmt: skip
    image, erased = np.zeros((96, 80, 3), np.uint8), 0
    for number in range(40):
        expected, found = (run(step, image, number)['img'] for step in (theirs, ours))
        changed = found.any(axis=-1)
        erased += changed.any()
        # Few pixels are black in all channels by chance, 0.002 %.
        assert (changed != expected.any(axis=-1)).sum() <= 2
        assert np.array_equal(found, run(ours, image, number)['img'])
    assert 10 < erased < 30


def test_erased_pixels_are_those_of_the_distribution() -> None:
    settings = dict(erase_prob=1.0, mode='rand', fill_color=MEAN, fill_std=STD)
    for step in both('RandomErasing', **settings):
        seed(0)
        patch = step._fill_pixels(np.zeros((600, 600, 3), np.uint8), 0, 0, 600, 600)
        for channel, (mean, std) in enumerate(zip(MEAN, STD)):
            counts = np.bincount(patch[..., channel].ravel(), minlength=256)
            # A level has what lies between it and the next, the first and last all beyond.
            shares = np.diff(norm.cdf([-np.inf, *range(1, 256), np.inf], mean, std))
            expected = counts.sum() * shares
            # Chi squared of 255 degrees: below 345 but for one in ten thousand.
            assert ((counts - expected) ** 2 / expected).sum() < 345


def test_other_ways_to_erase_are_the_librarys() -> None:
    for settings in (dict(mode='const', fill_color=(1, 2, 3)), dict(mode='rand')):
        theirs, ours = both('RandomErasing', erase_prob=1.0, **settings)
        image = photograph(50)
        assert np.array_equal(run(theirs, image, 1)['img'], run(ours, image, 1)['img'])


@pytest.mark.parametrize('image', [
    photograph(33)[:, ::-1], photograph(33), photograph(33)[..., 0],
    photograph(33).astype(np.float32),
])  # fmt: skip
def test_packing(image: np.ndarray) -> None:
    given = {'img': image, 'gt_label': 4, 'img_path': 'a.jpg', 'flip': True, 'other': 1}
    expected, found = (step(dict(given)) for step in both('PackInputs'))
    assert torch.equal(expected['inputs'], found['inputs'])
    assert found['inputs'].is_contiguous() and found['inputs'].dtype == expected['inputs'].dtype
    assert found['data_samples'].gt_label.tolist() == [4]
    assert found['data_samples'].metainfo == expected['data_samples'].metainfo


def test_samples_of_the_recipe() -> None:
    cfg = read_config(ROOT / f'configs/classification/{RECIPE}.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    ours = [TRANSFORMS.build(copy.deepcopy(step)) for step in pipeline]
    theirs = [TRANSFORMS.build({**copy.deepcopy(step), 'type': type_name(step)})
              for step in pipeline]  # fmt: skip
    assert [type(a) is type(b) for a, b in zip(ours, theirs)] == [True] + [False] * 5
    erasing = [type(step).__name__ for step in ours].index('RandomErasing')
    shares = []
    for path in PHOTOGRAPHS:
        for number in range(60):
            samples = []
            for steps in (theirs, ours):
                seed(number)
                sample = {'img_path': str(path), 'gt_label': 0}
                for step in steps[:erasing]:
                    sample = step(sample)
                samples.append(sample)
            shares.append((difference(*(s['img'] for s in samples)) > 2).mean())
            assert {k: v for k, v in samples[0].items() if k != 'img'} == {
                k: v for k, v in samples[1].items() if k != 'img'
            }
    # Where a level is turned over from some threshold on, one more or less is a large difference.
    assert np.mean(shares) < 2e-3 and np.mean(np.array(shares) == 0) > 0.5
