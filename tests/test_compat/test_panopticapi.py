"""The stand-in for panopticapi: mmdet's panoptic metric, against numbers worked out by hand."""

import json
import sys

import cv2
import numpy as np
import pytest
import torch
from mmdet.evaluation import INSTANCE_OFFSET, CocoPanopticMetric
from mmdet.evaluation.functional import panoptic_utils

from scopevit.compat import panopticapi as shim
from scopevit.compat._standin import is_offered
from scopevit.compat.standins.panopticapi import evaluation, utils

CATEGORIES = [
    {'id': 7, 'name': 'person', 'isthing': 1},
    {'id': 8, 'name': 'cat', 'isthing': 1},
    {'id': 9, 'name': 'sky', 'isthing': 0},
]


def test_is_offered_once_and_used():
    shim.apply()
    finders = list(sys.meta_path)
    shim.apply()
    assert is_offered('panopticapi')
    assert sys.meta_path == finders
    assert panoptic_utils.PQStat.__module__ == 'panopticapi.evaluation'


def test_numbers_are_colours():
    color = np.array([[[1, 2, 3], [255, 0, 0], [255, 255, 255]]], np.uint8)
    numbers = utils.rgb2id(color)
    assert numbers.tolist() == [[1 + 2 * 256 + 3 * 65536, 255, 256**3 - 1]]
    assert (utils.id2rgb(numbers) == color).all()
    assert utils.id2rgb(numbers).dtype == np.uint8


def test_qualities_of_two_parts_of_the_images():
    first, second = evaluation.PQStat(), evaluation.PQStat()
    first[7].tp, first[7].iou, first[7].fp = 2, 1.5, 1
    second[7].tp, second[7].iou, second[7].fn = 1, 0.6, 2
    second[9].fn = 1
    first += second
    categories = {category['id']: category for category in CATEGORIES}
    # 3 matches of IoU 2.1 in all, 3 without a match: 2.1 / 4.5, 2.1 / 3, 3 / 4.5.
    person = {'pq': pytest.approx(2.1 / 4.5), 'sq': pytest.approx(0.7), 'rq': pytest.approx(2 / 3)}
    nothing = {'pq': 0.0, 'sq': 0.0, 'rq': 0.0}
    things, by_category = first.pq_average(categories, isthing=True)
    assert things == {**person, 'n': 1}  # there is no cat
    assert by_category == {7: person, 8: nothing}
    stuff, by_category = first.pq_average(categories, isthing=False)
    assert (stuff, by_category) == ({**nothing, 'n': 1}, {9: nothing})
    everything, _ = first.pq_average(categories, isthing=None)
    assert everything == {
        'pq': pytest.approx(2.1 / 9), 'sq': pytest.approx(0.35), 'rq': pytest.approx(1 / 3), 'n': 2
    }  # fmt: skip
    assert evaluation.PQStat().pq_average(categories, None)[0] == {**nothing, 'n': 0}


def test_metric_of_mmdet(tmp_path):
    # A person of 10 x 10 pixels, of whom 8 x 10 are found, and sky, which gets the other two rows.
    truth = np.full((20, 10), 300)
    truth[:10] = 2
    (tmp_path / 'truth').mkdir()
    cv2.imwrite(str(tmp_path / 'truth' / 'a.png'), utils.id2rgb(truth)[..., ::-1])
    segments = [
        {'id': number, 'category_id': category, 'iscrowd': 0, 'area': 100, 'bbox': [0, y, 10, 10]}
        for number, category, y in ((2, 7, 0), (300, 9, 10))
    ]
    content = {
        'images': [{'id': 1, 'file_name': 'a.jpg', 'height': 20, 'width': 10}],
        'annotations': [{'image_id': 1, 'file_name': 'a.png', 'segments_info': segments}],
        'categories': CATEGORIES,
    }
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    metric = CocoPanopticMetric(
        ann_file=str(tmp_path / 'truth.json'), seg_prefix=str(tmp_path / 'truth'), nproc=1
    )
    names = [category['name'] for category in CATEGORIES]
    metric.dataset_meta = {
        'classes': names, 'thing_classes': names[:2], 'stuff_classes': names[2:]
    }  # fmt: skip
    found = torch.full((20, 10), 2)  # sky
    found[:8] = 0 + 1 * INSTANCE_OFFSET  # the first person
    sample = {
        'pred_panoptic_seg': {'sem_seg': found[None]},
        'img_path': 'a.jpg', 'img_id': 1, 'ori_shape': (20, 10),
    }  # fmt: skip
    metric.process({}, [sample])
    metrics = metric.evaluate(size=1)
    # IoU 80 / 100 of the person, and 100 / 120 of the sky.
    assert metrics['coco_panoptic/PQ'] == pytest.approx(100 * (0.8 + 100 / 120) / 2)
    assert metrics['coco_panoptic/PQ_th'] == pytest.approx(80)
    assert metrics['coco_panoptic/RQ'] == pytest.approx(100)
