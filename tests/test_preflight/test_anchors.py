"""Sizes of objects against anchors, strides and inputs, by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from scopevit.engine.config import load_config
from scopevit.engine.libraries import find_library
from scopevit.own_data.detection import halvings
from scopevit.preflight.anchors import anchor_sizes, best_overlaps, check_sizes
from scopevit.preflight.resizing import input_scale

CONFIGS = Path(__file__).parents[2] / 'configs'
RETINANET = CONFIGS / 'detection' / 'retinanet_scopevit-tiny_fpn_1x_coco.py'
MASK_RCNN = CONFIGS / 'demo' / 'mask-rcnn_scopevit-xtiny_fpn_nuclei.py'


@pytest.fixture(scope='module', autouse=True)
def mmdet() -> None:
    find_library('mmdet')


def squares(*sides: float) -> np.ndarray:
    return np.array([[side, side] for side in sides])


def images(count: int, width: int, height: int) -> np.ndarray:
    return np.tile([width, height], (count, 1))


def test_anchor_sizes():
    # Five strides from 8 on, times 4, times 1, 2 ** (1 / 3) and 2 ** (2 / 3).
    expected = [32 * 2 ** (i / 3) for i in range(15)]
    assert anchor_sizes(load_config(RETINANET)) == pytest.approx(expected, abs=0.01)
    # Six times the strides 4, 8, 16 and 32; their three ratios have one area.
    assert anchor_sizes(load_config(MASK_RCNN)) == [24, 48, 96, 192]
    assert anchor_sizes(Config(dict(default_scope='mmseg', model=dict()))) == []


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('bbox_head.anchor_generator.strides', [0] * 5),
        ('bbox_head.anchor_generator.strides', None),
        ('bbox_head.anchor_generator.type', 'OwnGenerator'),
        ('bbox_head.anchor_generator.ratios', []),
        ('train_cfg.assigner.neg_iou_thr', 'low'),
    ],
)
def test_anchors_that_cannot_be_built_are_told_with_the_model(key, value):
    cfg = load_config(RETINANET, {f'model.{key}': value})
    assert anchor_sizes(cfg) == []
    check_sizes(squares(40, 40), images(2, 640, 480), cfg)


def test_scales_that_are_none():
    for scale in ('large', (0, 0)):
        step = dict(type='Resize', scale=scale, keep_ratio=True)
        dataset = dict(pipeline=[step])
        cfg = load_config(RETINANET)
        cfg.train_dataloader.dataset = dataset
        assert check_sizes(squares(40, 40), images(2, 640, 480), cfg) == []


def test_overlap_of_centred_boxes():
    anchors = np.array([[32.0, 32.0], [64.0, 32.0]])
    sizes = np.array([[16.0, 16.0], [32.0, 32.0], [64.0, 64.0], [128.0, 16.0]])
    # 256 / 1024; the same; 64 * 32 / 4096; 64 * 16 / (128 * 16 + 64 * 32 - 64 * 16)
    assert best_overlaps(sizes, anchors) == pytest.approx([0.25, 1, 0.5, 1 / 3])


@pytest.mark.parametrize(
    ('step', 'factors'),
    [
        # Keeps the ratio: the smaller of 1333 / 640 and 800 / 480.
        (dict(type='Resize', scale=(1333, 800), keep_ratio=True), 800 / 480),
        # Both sides by themselves, 2 and 1: root of the product.
        (dict(type='Resize', scale=(1280, 480)), math.sqrt(2)),
        (dict(type='Resize', scale_factor=0.5), 0.5),
        # The mean of what is drawn, 1.5 times the scale.
        (
            dict(
                type='mmdet.RandomResize', scale=(640, 480), ratio_range=(1.0, 2.0), keep_ratio=True
            ),
            1.5,
        ),
        (dict(type='RandomResize', scale=[(640, 480), (1280, 960)], keep_ratio=True), 1.5),
        (dict(type='RandomChoiceResize', scales=[(640, 480), (1280, 960)], keep_ratio=True), 1.5),
        (dict(type='RandomFlip'), 1),
        (dict(type='RandomChoice', transforms=[[dict(type='Resize', scale=(320, 240))]]), 0.5),
    ],
)
def test_input_scale(step, factors):
    pipeline = [dict(type='LoadImageFromFile'), step, dict(type='PackDetInputs')]
    cfg = Config(dict(train_dataloader=dict(dataset=dict(pipeline=pipeline))))
    assert input_scale(cfg, (640, 480)) == pytest.approx(factors)


def test_scale_of_images_that_stand():
    step = dict(type='Resize', scale=(1333, 800), keep_ratio=True)
    cfg = Config(dict(train_dataloader=dict(dataset=dict(dataset=dict(pipeline=[step])))))
    assert input_scale(cfg, (480, 640)) == pytest.approx(800 / 480)


def test_sizes_that_fit():
    cfg = load_config(RETINANET)
    # 800 / 600 enlarges them to 32 and more.
    assert check_sizes(squares(24, 60, 200), images(3, 800, 600), cfg) == []
    assert check_sizes(np.zeros((0, 2)), np.zeros((0, 2)), cfg) == []


def test_small_objects():
    cfg = load_config(RETINANET)
    # Once as large as it is, 12 / 32 squared is an IoU of 0.14, below 0.4.
    findings = check_sizes(squares(*[12] * 9, 300), images(10, 1333, 800), cfg)
    assert [(f.level, f.what, f.count) for f in findings] == [
        ('error', 'objects smaller than the anchors', 9)
    ]
    assert findings[0].where == 'model.bbox_head.anchor_generator'
    # 32 halved twice is 8, the first at most 1.19 times 12.
    assert 'octave_base_scale=1 (now 4)' in findings[0].text
    assert 'mAP will be near 0' in findings[0].text
    assert '12 pixels wide (median), anchors 32 to 813' in findings[0].text
    cfg.model.bbox_head.anchor_generator.octave_base_scale = 1
    assert check_sizes(squares(*[12] * 9, 300), images(10, 1333, 800), cfg) == []


def test_some_small_objects():
    cfg = load_config(RETINANET)
    findings = check_sizes(squares(12, 300, 300), images(3, 1333, 800), cfg)
    assert [f.level for f in findings] == ['warning']  # a third
    assert check_sizes(squares(12, *[300] * 4), images(5, 1333, 800), cfg) == []  # a fifth


def test_objects_between_cells():
    cfg = load_config(RETINANET)
    findings = check_sizes(squares(5, 6, 7), images(3, 1333, 800), cfg)
    assert [(f.what, f.count) for f in findings] == [
        ('objects smaller than the anchors', 3),
        ('objects smaller than a stride', 3),
    ]
    assert 'less than 8 pixels' in findings[1].text


def test_anchors_of_no_size_that_helps():
    cfg = load_config(RETINANET)
    cfg.model.bbox_head.anchor_generator.octave_base_scale = 1
    text = check_sizes(squares(4), images(1, 1333, 800), cfg)[0].text
    assert text.endswith('anchors 8 to 203: enlarge the images')


def test_anchors_far_too_large():
    cfg = load_config(MASK_RCNN)
    cfg.model.rpn_head.anchor_generator.scales = [64]
    # Enlarged by 2 x 1.025: 36 of 256 pixels; 256 / 2 ** 3 is at most 1.19 times 36.
    findings = check_sizes(squares(*[17.5] * 4), images(4, 250, 250), cfg)
    assert [(f.level, f.what) for f in findings] == [('error', 'objects smaller than the anchors')]
    assert 'model.rpn_head.anchor_generator.scales=[8] (now [64])' in findings[0].text
    # No overlap of 0.3 with the region proposals' anchors.
    assert 'overlap no anchor by 0.3 (IoU)' in findings[0].text


def test_large_and_long_objects():
    cfg = load_config(MASK_RCNN)
    large = check_sizes(squares(240), images(1, 250, 250), cfg)[0]
    # (192 / 492) ** 2 is 0.15; 492 is 1.28 times twice 192.
    assert large.what == 'objects larger than the anchors'
    assert 'scales=[12] (now [6])' in large.text
    long = check_sizes(np.array([[10, 100]]), images(1, 250, 250), cfg)[0]
    assert long.what == 'objects of another shape than the anchors'
    assert 'add 10 (height / width)' in long.text


def test_anchor_free():
    head = dict(strides=[8, 16], num_classes=2)
    step = dict(type='Resize', scale=(640, 640))
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=dict(bbox_head=head),
            train_dataloader=dict(dataset=dict(pipeline=[step])),
        )
    )
    assert anchor_sizes(cfg) == []
    assert check_sizes(squares(10, 500), images(2, 640, 640), cfg) == []
    findings = check_sizes(squares(6, 7, 500), images(3, 640, 640), cfg)
    assert [(f.level, f.count) for f in findings] == [('warning', 2)]


def test_small_people():
    cfg = load_config(CONFIGS / 'demo' / 'td-hm_scopevit-xtiny_people-256x192.py')
    # 192 / (1.25 * 30) is 5.1, 256 / (1.25 * 60) is 3.4: the smaller counts.
    assert check_sizes(np.array([[30, 60]]), images(1, 640, 480), cfg) == []
    findings = check_sizes(np.array([[30, 40], [90, 200]]), images(2, 640, 480), cfg)
    assert [(f.level, f.count) for f in findings] == [('note', 1)]
    assert '192x256' in findings[0].text


@pytest.mark.parametrize(('side', 'halved'), [(40, 0), (27, 0), (26, 1), (14, 1), (13, 2), (5, 3)])
def test_halvings(side, halved):
    # 32, 16, 8 and 4 pixels are at most 1.19 times 27, 13.5, 6.7 and 3.4.
    assert halvings(32, side) == halved
