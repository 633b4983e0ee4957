"""Parts of masks, against pycocotools, which decodes them whole."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from scopevit.inference import drawing
from scopevit.inference.masks import cut_out, run_lengths

GENERATOR = np.random.default_rng(0)


def encoded(mask):
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def test_run_lengths():
    mask = np.zeros((700, 3), np.uint8)
    mask[100:650, 1] = 1
    assert run_lengths(encoded(mask)['counts']) == [800, 550, 750]
    # Numbers that go down and up are told by their differences.
    lengths = [5, 1000, 3, 40, 900, 2, 70000, 1, 1]
    total = sum(lengths)
    rle = coco_mask.frPyObjects({'size': [total, 1], 'counts': lengths}, total, 1)
    assert run_lengths(rle['counts']) == lengths


@pytest.mark.parametrize('kind', ['random', 'full', 'corner', 'last', 'columns'])
@pytest.mark.parametrize('place', [(0, 0), (7, 5), (60, 40)])
def test_part_of_a_mask(kind, place):
    mask = (GENERATOR.random((40, 30)) < 0.3).astype(np.uint8)
    if kind != 'random':
        mask[...] = kind == 'full'
    if kind == 'corner':
        mask[0, 0] = 1
    if kind == 'last':
        mask[-1, -1] = 1
    if kind == 'columns':
        mask[:, 10:20] = 1
    whole = np.zeros((100, 70), np.uint8)
    whole[place[0] : place[0] + 40, place[1] : place[1] + 30] = mask
    part, top, left = cut_out(encoded(whole))
    again = np.zeros_like(whole)
    again[top : top + part.shape[0], left : left + part.shape[1]] = part
    assert (again == whole).all()
    assert part.shape[0] <= 40 and part.shape[1] <= 30
    assert not cut_out(encoded(np.zeros((9, 8))))[0].size


@pytest.mark.parametrize('scale', [1, 3])
def test_mask_is_drawn_as_decoded(scale):
    for _ in range(20):
        mask = np.zeros((50, 60), np.uint8)
        top, left = GENERATOR.integers(0, 35, 2)
        mask[top : top + 15, left : left + 9] = GENERATOR.random((15, 9)) < 0.6
        picture = np.full((50 * scale, 60 * scale, 3), 200, np.uint8)
        drawing.draw_mask(picture, encoded(mask), scale, (0, 100, 0))
        large = mask.repeat(scale, 0).repeat(scale, 1) > 0
        # 0.55 * 200 and 0.55 * 200 + 0.45 * 100
        assert (picture[large] == (110, 155, 110)).all()
        assert (picture[~large] == 200).all()


def test_mask_of_a_picture_drawn_smaller():
    mask = np.zeros((400, 600), np.uint8)
    mask[100:200, 300:500] = 1
    mask[399, 599] = 1  # the box of the mask reaches to the corner
    picture = np.full((100, 150, 3), 200, np.uint8)
    drawing.draw_mask(picture, encoded(mask), 0.25, (0, 100, 0))
    expected = cv2.resize(mask, (150, 100), interpolation=cv2.INTER_AREA) > 0
    differs = (picture != 200).any(2) != expected
    assert (picture[25:50, 75:125] == (110, 155, 110)).all()
    assert differs.sum() <= 1  # of the corner, a quarter of a pixel
    # A speck is one pixel, also at the very end.
    for row, column in ((0, 0), (399, 599), (210, 33)):
        speck, picture = np.zeros((400, 600)), np.full((10, 15, 3), 200, np.uint8)
        speck[row, column] = 1
        drawing.draw_mask(picture, encoded(speck), 0.025, (0, 100, 0))
        assert (picture != 200).any(2).sum() == 1
