"""Own data in the format of LabelMe."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from own_images import SMALL_HEADS, make_image

from scopevit.engine.config import load_config

BOX = dict(label='cup', shape_type='rectangle', points=[[40, 30], [10, 5]], group_id=1)
OUTLINE = dict(label='pen', shape_type='polygon', points=[[50, 5], [70, 5], [70, 15], [50, 15]])


def point(label: str, x: float, y: float, group: int | None = 1) -> dict:
    return dict(label=label, shape_type='point', points=[[x, y]], group_id=group)


@pytest.fixture
def write_shapes(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes three images of 100x50 with the same shapes."""

    def run(*shapes: dict) -> Path:
        for i in range(3):
            make_image(tmp_path / 'desk' / f'{i}.jpg', 100, 50)
            content = dict(imagePath=f'..\\old\\{i}.jpg', shapes=shapes)
            (tmp_path / 'desk' / f'{i}.json').write_text(json.dumps(content))
        return tmp_path / 'desk'

    return run


def first(config: Path) -> list[dict]:
    return json.loads((config.with_suffix('') / 'val.json').read_text())['annotations']


def test_boxes(write_shapes, write):
    config, said = write('detection', write_shapes(BOX, OUTLINE, point('tip', 1, 1)))
    assert 'LabelMe; 2 classes, 2 images to train on' in said
    assert '3 points are left out' in said
    assert '3 of 6 objects have no mask' in said
    assert [(a['category_id'], a['bbox']) for a in first(config)] == [
        (1, [10, 5, 30, 25]), (2, [50, 5, 20, 10]),
    ]  # fmt: skip
    assert load_config(config).model.type == 'RetinaNet'


@pytest.mark.slow
def test_masks_of_a_circle(write_shapes, write):
    circle = dict(label='coin', shape_type='circle', points=[[50, 25], [60, 25]])
    config, _ = write('detection', write_shapes(circle))
    assert first(config)[0]['bbox'] == [40, 15, 20, 20]
    # A polygon of 36 corners has 0.5 % less area than the circle, of radius 10.
    assert first(config)[0]['area'] == pytest.approx(314, abs=6)
    assert load_config(config).model.type == 'MaskRCNN'


def test_points(write_shapes, write):
    shapes = [BOX, dict(BOX, group_id=2), point('rim_left', 12, 6), point('rim_right', 30, 6)]
    config, _ = write('pose', write_shapes(*shapes, point('rim_right', 31, 7, 2)))
    assert [a['keypoints'] for a in first(config)] == [
        [12, 6, 2, 30, 6, 2], [0, 0, 0, 31, 7, 2],
    ]  # fmt: skip
    info = load_config(config).dataset_info
    assert info.keypoint_info[0].swap == 'rim_right'


def test_bad_shapes(write_shapes, refuses):
    line = refuses('detection', write_shapes(dict(OUTLINE, shape_type='line')))
    assert "'pen' is a line; point, rectangle, circle, polygon are read" in line
    line = refuses('detection', write_shapes(dict(OUTLINE, points=[[1, 2]])))
    assert 'a polygon takes a label and 3 points or more' in line
    for shape, message in (
        (5, 'a shape must have label and points, not 5'),
        (dict(OUTLINE, points=5), 'points must be a list, not 5'),
        (dict(OUTLINE, shape_type={}, points=[]), 'a polygon takes a label and 3 points or more'),
        (dict(OUTLINE, shape_type={'a': 1}), "'pen' is a {'a': 1}; point, rectangle"),
    ):
        assert message in refuses('detection', write_shapes(shape))
    # pycocotools would take memory for its extent, and end the process.
    far = dict(OUTLINE, points=[[50, 5], [1e30, 5], [70, 15]])
    line = refuses('segmentation', write_shapes(far))
    assert 'a polygon has a point at 1e+30, its image has 100x50 pixels' in line
    assert 'has no points, which pose takes' in refuses('pose', write_shapes(BOX))
    line = refuses('pose', write_shapes(BOX, dict(BOX, group_id=2), point('tip', 1, 1, 5)))
    assert 'points of group 5 belong to no rectangle or polygon' in line
    line = refuses('pose', write_shapes(OUTLINE, OUTLINE, point('tip', 1, 1, None)))
    assert 'points of group None belong to no' in line
    assert 'no mask to draw' in refuses('segmentation', write_shapes(BOX))


@pytest.mark.slow
def test_trains(write_shapes, write, trains):
    config, _ = write('detection', write_shapes(BOX))
    trains(config, *SMALL_HEADS)


@pytest.mark.slow
def test_trains_keypoints(write_shapes, write, trains):
    config, _ = write(
        'pose', write_shapes(BOX, point('rim_left', 12, 6), point('rim_right', 30, 6))
    )
    trains(config, 'model.head.deconv_out_channels=[16,16,16]')


@pytest.mark.slow
def test_trains_drawn_masks(write_shapes, write, trains):
    trains(write('segmentation', write_shapes(OUTLINE))[0])
