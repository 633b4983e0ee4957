"""Masks of COCO files that pycocotools would read past its memory, or without end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from scopevit.engine.checks.coco import read_coco
from scopevit.engine.checks.masks import check_masks, decode
from scopevit.errors import InputError

GOOD = coco_mask.encode(np.asfortranarray(np.eye(4, dtype=np.uint8)))['counts'].decode()


@pytest.mark.parametrize('share', [0.0, 0.02, 0.5, 1.0])
def test_runs_are_those_of_the_mask(share: float) -> None:
    random = np.random.default_rng(0)
    for size in ((1, 1), (5, 7), (300, 200)):
        mask = (random.random(size) < share).astype(np.uint8)
        runs = decode(coco_mask.encode(np.asfortranarray(mask))['counts'].decode())
        values = np.arange(len(runs)) % 2  # the first is of zeros
        np.testing.assert_array_equal(np.repeat(values, runs), mask.T.ravel())


@pytest.mark.parametrize(
    'mask',
    [
        [[0, 0, 4, 0, 4, 4]],
        [[0.5, 0, 4, 0, 4, 4], [1, 1, 2, 1, 2, 2]],
        dict(size=[4, 4], counts=GOOD),
        dict(size=[4, 4], counts=[3, 5, 8]),
        dict(size=[4.0, 4.0], counts=[3.0, 5, 8]),
        [[0, 0, 4, 0, 4]],  # the libraries leave it out
        [0, 0, 4, 0, 4, 4],
        [],
        None,
    ],
)
def test_good_masks(mask: Any) -> None:
    check_masks([dict(id=1, segmentation=mask), dict(id=2)], [(4, 4), None])


@pytest.mark.parametrize(
    ('mask', 'message'),
    [
        (
            dict(size=[4, 5], counts=GOOD),
            r'size of the RLE is \[4, 5\], that of the image \(4, 4\)',
        ),
        (dict(size=[4, -4], counts=GOOD), 'size of the RLE is'),
        (dict(size=[4, 4.5], counts=GOOD), 'must be height and width'),
        (dict(size=4, counts=GOOD), 'must be height and width'),
        (dict(counts=GOOD), 'must be height and width, not None'),
        (dict(size=[4, 4]), 'must have counts'),
        (dict(size=[4, 4], counts=GOOD[:-2]), 'fill .* pixels'),
        (dict(size=[4, 4], counts=''), 'end too early, or are none'),
        (dict(size=[4, 4], counts='_'), 'end too early, or are none'),
        (dict(size=[4, 4], counts='\x00'), 'end too early, or are none'),
        (dict(size=[4, 4], counts='\u0441'), 'end too early, or are none'),
        (dict(size=[4, 4], counts='o' * 20 + '0'), 'end too early, or are none'),
        (dict(size=[4, 4], counts=[3, 5]), 'fill 8 pixels'),
        (dict(size=[4, 4], counts=[-3, 19]), 'not those of its size'),
        (dict(size=[4, 4], counts=[10**30]), 'not those of its size'),
        (dict(size=[4, 4], counts=[True, 15]), 'must have counts'),
        ([[0, 0, 4, 0, 4, '4']], 'x and y in turn'),
        ([[0, 0, 4, 0, 4, float('nan')]], 'goes beyond 1000000 pixels'),
        ([[0, 0, 4, 0, 4, 10**400]], 'goes beyond 1000000 pixels'),
        ([[float('nan'), 0, 4, 0, 4, 10**400]], 'goes beyond 1000000 pixels'),
        ([[0, 0, 4, 0, 4, 1e30]], 'goes beyond 1000000 pixels'),
        ('0 0 4 4', 'a list of outlines'),
    ],
)
def test_bad_masks(mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f'segmentation of annotation 7: .*{message}'):
        check_masks([dict(id=7, segmentation=mask)], [(4, 4)])


def test_a_file_with_a_bad_mask(tmp_path: Path) -> None:
    annotation = dict(id=7, image_id=1, segmentation=dict(size=[9, 9], counts=GOOD))
    image = dict(id=1, height=4, width=4)
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(dict(images=[image], categories=[], annotations=[annotation])))
    with pytest.raises(InputError, match='not COCO annotations: .*a.json .* annotation 7: size'):
        read_coco(path, 'ann_file')
