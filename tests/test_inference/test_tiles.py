"""Tiles and what is made of theirs, against what is worked out by hand."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from scopevit.inference.results import DetectionResult, Labels
from scopevit.inference.tiles import (
    MergedClassMap,
    Tile,
    intersections,
    merge_objects,
    move_rle,
    neighbours,
    starts,
    tiles_of,
)

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(
    ('length', 'size', 'expected'),
    [
        (50, 100, [0]),
        (100, 100, [0]),
        (101, 100, [0, 1]),
        (175, 100, [0, 75]),
        (176, 100, [0, 38, 76]),
        (400, 100, [0, 75, 150, 225, 300]),
    ],
)
def test_tiles_along_a_side(length, size, expected):
    assert starts(length, size) == expected


def test_tiles_of_an_image():
    assert tiles_of(100, 175, 100) == [Tile(0, 0, 0, 0, 100, 100), Tile(0, 1, 0, 75, 100, 175)]
    assert tiles_of(30, 20, 100) == [Tile(0, 0, 0, 0, 30, 20)]
    for height, width in ((300, 301), (999, 100), (130, 777)):
        covered = np.zeros((height, width), int)
        for tile in tiles_of(height, width, 100):
            assert tile.cut(covered).shape == (min(100, height), min(100, width))
            tile.cut(covered)[...] += 1
        assert covered.min() == 1


def weights_of(tile):
    """From 0 at the border to 1 a quarter of the side within, at the middles of pixels."""
    along = [
        np.interp(np.arange(n) + 0.5, [0, n / 4, n * 3 / 4, n], [0, 1, 1, 0])
        for n in (tile.bottom - tile.top, tile.right - tile.left)
    ]
    return np.outer(*along)


@pytest.mark.parametrize('size', [(100, 100), (130, 176), (401, 300), (90, 260)])
def test_class_map_is_that_of_the_weighted_logits(size):
    tiles = tiles_of(*size, 100)
    logits = [torch.randn(3, t.bottom - t.top, t.right - t.left) for t in tiles]
    merged = MergedClassMap(tiles)
    total, count = np.zeros((3, *size)), np.zeros(size)
    for tile, one in zip(tiles, logits):
        merged.add(tile, one)
        share = weights_of(tile)
        total[:, tile.top : tile.bottom, tile.left : tile.right] += one.numpy() * share
        tile.cut(count)[...] += share
    mean = total / count
    best = np.sort(mean, axis=0)
    clear = best[-1] - best[-2] > 1e-5
    assert (merged.class_map == mean.argmax(0))[clear].all()
    assert clear.mean() > 0.99
    assert merged.class_map.dtype == np.uint8


def test_class_map_of_a_function_of_each_pixel_has_no_seam():
    # Whole numbers, whose sums are exact.
    logits = torch.randint(-50, 50, (5, 333, 410)).float()
    tiles = tiles_of(333, 410, 128)
    merged = MergedClassMap(tiles)
    for tile in tiles:
        merged.add(tile, logits[:, tile.top : tile.bottom, tile.left : tile.right])
    assert (merged.class_map == logits.argmax(0).numpy()).all()


def test_no_line_where_a_tile_begins():
    # The tiles are of 0.4 and 1, and have columns 75 to 99 in common.
    tiles = tiles_of(100, 175, 100)
    shown = []
    for threshold in (0.41, 0.5, 0.69, 0.9, 0.99):
        merged = MergedClassMap(tiles, threshold)
        for tile, value in zip(tiles, (0.4, 1.0)):
            merged.add(tile, torch.full((1, 100, 100), value))
        assert (merged.class_map == merged.class_map[0]).all()
        shown.append(int(merged.class_map[0].argmax()))
    # Where 0.4 + 0.6 * (x + 0.5 - 75) / 25 gets larger, instead of a jump to 0.7 at 75.
    assert shown == [75, 79, 87, 96, 100]


def test_rows_that_are_kept_are_those_that_overlap():
    tiles = tiles_of(400, 700, 100)
    merged = MergedClassMap(tiles)
    for tile in tiles:
        merged.add(tile, torch.zeros(3, 100, 100))
        assert (merged.below.shape, merged.current.shape) == ((3, 25, 700), (3, 100, 100))


@pytest.mark.parametrize('size', [(100, 100), (130, 176), (401, 300), (176, 900)])
def test_neighbours_are_those_that_overlap(size):
    tiles = tiles_of(*size, 100)
    for tile in tiles:
        near = list(neighbours(tile, tiles))
        for k, other in enumerate(tiles):
            low, high = max(tile.top, other.top), min(tile.bottom, other.bottom)
            left, right = max(tile.left, other.left), min(tile.right, other.right)
            assert k in near or low >= high or left >= right
        assert len(near) == len(set(near)) <= 25


def test_one_class_by_its_mean_probability():
    tiles = tiles_of(130, 176, 100)
    merged = MergedClassMap(tiles, threshold=0.6)
    total, count = np.zeros((130, 176)), np.zeros((130, 176))
    for tile in tiles:
        one = torch.rand(1, 100, 100)
        merged.add(tile, one)
        tile.cut(total)[...] += one[0].numpy() * weights_of(tile)
        tile.cut(count)[...] += weights_of(tile)
    mean = total / count
    clear = np.abs(mean - 0.6) > 1e-5
    assert (merged.class_map == (mean > 0.6))[clear].all()
    assert 0.1 < merged.class_map.mean() < 0.9


@pytest.mark.parametrize('place', [(0, 0), (7, 0), (0, 5), (30, 20), (60, 40)])
@pytest.mark.parametrize('kind', ['random', 'full', 'empty', 'corners'])
def test_mask_is_moved(place, kind):
    top, left = place
    mask = (GENERATOR.random((40, 30)) < 0.5).astype(np.uint8)
    if kind != 'random':
        mask[...] = kind == 'full'
    if kind == 'corners':
        mask[[0, 0, -1, -1], [0, -1, 0, -1]] = 1
    whole = np.zeros((100, 70), np.uint8)
    whole[top : top + 40, left : left + 30] = mask
    tile = Tile(0, 0, top, left, top + 40, left + 30)
    moved = move_rle(coco_mask.encode(np.asfortranarray(mask)), tile, (100, 70))
    assert (coco_mask.decode(moved) == whole).all()
    assert moved == coco_mask.encode(np.asfortranarray(whole))
    # A tile as high as its image, whose runs go on from column to column.
    low = Tile(0, 0, 0, left, 40, left + 30)
    moved = move_rle(coco_mask.encode(np.asfortranarray(mask)), low, (40, 70))
    assert moved == coco_mask.encode(np.asfortranarray(np.pad(mask, ((0, 0), (left, 40 - left)))))


def merged(size, side, found, **test_cfg):
    """Merges objects, (left, top, right, bottom, score, class) in pixels of tiles."""
    tiles, results = tiles_of(*size, side), []
    for objects in found:
        rows = np.array(objects, float).reshape(-1, 6)
        results.append(
            DetectionResult(
                boxes=rows[:, :4], scores=rows[:, 4], classes=rows[:, 5].astype(int),
                source='', name='', size=(side, side), labels=Labels(),
            )
        )  # fmt: skip
    assert len(tiles) == len(results)
    return merge_objects(tiles, results, test_cfg, Labels(), source='', name='', size=size)


def test_object_that_two_tiles_have():
    # At 80 to 95 of the image; the second tile begins at 75.
    result = merged((100, 175), 100, [[(80, 10, 95, 30, 0.8, 1)], [(5, 10, 20, 30, 0.9, 1)]])
    assert result.boxes.tolist() == [[80, 10, 95, 30]]
    assert (result.scores.tolist(), result.classes.tolist()) == ([0.9], [1])
    two = merged((100, 175), 100, [[(80, 10, 95, 30, 0.8, 1)], [(5, 10, 20, 30, 0.9, 0)]])
    assert two.classes.tolist() == [0, 1]


def test_part_of_an_object_gives_way_to_the_whole():
    # The object is at 90 to 130; the first tile ends at 100, and is surer of its part.
    result = merged((100, 175), 100, [[(90, 10, 100, 30, 0.9, 1)], [(15, 10, 55, 30, 0.6, 1)]])
    assert result.boxes.tolist() == [[90, 10, 130, 30]]
    # An object at the border of the image is not cut there: the larger one is of another.
    whole = merged((100, 175), 100, [[(0, 10, 20, 30, 0.9, 1), (0, 0, 60, 60, 0.5, 1)], []])
    assert len(whole.boxes) == 2
    empty = merged((100, 175), 100, [[], []])
    assert empty.boxes.shape == (0, 4)


def test_threshold_is_the_networks():
    # The boxes have 15 * 20 of 20 * 20 + 20 * 20 - 15 * 20 pixels in common: 0.6.
    found = [[(70, 10, 90, 30, 0.8, 1)], [(0, 10, 20, 30, 0.9, 1)]]
    assert len(merged((100, 175), 100, found, nms=dict(iou_threshold=0.55)).boxes) == 1
    assert len(merged((100, 175), 100, found, rcnn=dict(nms=dict(iou_threshold=0.65))).boxes) == 2


def test_neighbours_of_many_classes_far_from_the_corner():
    # 5.5 of 18.5 pixels in common, less than 0.3; in float32, 1,202 * 30,000 has steps of 4.
    tiles = tiles_of(512, 30_000, 512)
    for x in np.arange(200, 300, 3.3):
        pair = [(x, 100, x + 12, 112, 0.9, 1202), (x + 6.5, 100, x + 18.5, 112, 0.8, 1202)]
        found = [[]] * (len(tiles) - 1) + [pair]
        assert len(merged((512, 30_000), 512, found, nms=dict(iou_threshold=0.3)).boxes) == 2


def test_random_objects_one_by_one():
    size, side = (260, 390), 128
    found = []
    for tile in tiles_of(*size, side):
        # Far from where tiles are cut.
        low = GENERATOR.uniform(10, 70, (30, 2))
        scores, classes = GENERATOR.random(30), GENERATOR.integers(0, 2, 30)
        high = low + GENERATOR.uniform(10, 40, (30, 2))
        found.append([(*a, *b, s, c) for a, b, s, c in zip(low, high, scores, classes)])
        assert tile.bottom - tile.top == side
    result = merged(size, side, found, nms=dict(iou_threshold=0.4))
    rows = np.array(
        [
            (a + t.left, b + t.top, c + t.left, d + t.top, s, k)
            for t, objects in zip(tiles_of(*size, side), found)
            for a, b, c, d, s, k in objects
        ]
    )
    kept: list[int] = []
    for i in np.argsort(-rows[:, 4]):
        overlaps = [iou(rows[i], rows[k]) for k in kept if rows[i, 5] == rows[k, 5]]
        if max(overlaps, default=0) <= 0.4:
            kept.append(i)
    assert result.boxes == pytest.approx(rows[kept][:, :4])
    assert result.scores == pytest.approx(rows[kept][:, 4])
    assert len(rows) > len(kept) > 20


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def test_intersections():
    a, b = np.array([[0, 0, 10, 10]]), np.array([[5, 5, 20, 20], [10, 0, 20, 10], [2, 2, 4, 9]])
    assert intersections(a, b).tolist() == [[25, 0, 14]]
