"""Checks of data sets; tests/test_tools makes them fail in the tools."""

import json

import numpy as np
import pytest
from checked_sets import detection_set
from mmengine.config import Config
from torch import nn

from scopevit.engine.checks import data
from scopevit.engine.checks.coco import forget_files
from scopevit.errors import InputError


def test_wrapped_data_sets_are_checked(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(dict(images=[], categories=[dict(id=1, name='cat')])))
    leaf = dict(type='CocoDataset', ann_file=str(path), metainfo=dict(classes=('dog',)))
    wrapped = dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[leaf]))
    with pytest.raises(InputError, match='classes without a category: dog'):
        data.check_dataset_files(wrapped, 'train_dataloader.dataset', 'mmdet')
    leaf['metainfo']['classes'] = ('cat',)
    data.check_dataset_files(wrapped, 'train_dataloader.dataset', 'mmdet')


@pytest.mark.parametrize(
    ('part', 'change', 'message'),
    [
        ('images', dict(id=0), 'val.json: id 0 is there twice among images'),
        ('annotations', dict(id=1), 'val.json: id 1 is there twice among annotations'),
        ('annotations', dict(iscrowd=1), r'every annotation in .*val.json is a crowd \(iscrowd=1'),
    ],
)
def test_a_file_that_a_test_cannot_compare_with(part, change, message, tmp_path):
    checked = detection_set(tmp_path)
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(checked.coco['val']))
    cfg = checked.cfg | dict(
        test_dataloader=checked.cfg['val_dataloader'], test_evaluator=checked.cfg['val_evaluator']
    )
    data.check_files(Config(cfg), 'test')
    for item in checked.coco['val'][part]:
        item.update(change)
    path.write_text(json.dumps(checked.coco['val']))
    forget_files()
    with pytest.raises(InputError, match=message):
        data.check_files(Config(cfg), 'test')


@pytest.mark.parametrize('labels', [np.zeros(64), np.zeros((48, 63))])
def test_label_maps_of_another_shape(labels):
    step = data.CheckedLoading(lambda results: results, 2, 255)
    with pytest.raises(InputError, match='^a.png is (64|48x63) pixels .*, its image 48x64$'):
        step(dict(gt_seg_map=labels, ori_shape=(48, 64), seg_map_path='a.png'))


def test_an_outline_that_is_no_list_names_its_image():
    def read(results):
        return len(5)

    with pytest.raises(InputError, match='^cannot load a.png: object of type'):
        data.CheckedLoading(read)(dict(img_path='a.png'))


def test_class_counts_leave_region_proposals_out():
    model = nn.Module()
    for name in ('backbone', 'rpn_head', 'bbox_head'):
        part = nn.Module()
        part.num_classes = 7
        model.add_module(name, part)
    assert data.class_counts(model) == {'bbox_head': 7}
