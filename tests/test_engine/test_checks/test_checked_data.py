"""Checks of data sets; tests/test_tools makes them fail in the tools."""

import json

import pytest
from torch import nn

from scopevit.engine.checks import data
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


def test_class_counts_leave_region_proposals_out():
    model = nn.Module()
    for name in ('backbone', 'rpn_head', 'bbox_head'):
        part = nn.Module()
        part.num_classes = 7
        model.add_module(name, part)
    assert data.class_counts(model) == {'bbox_head': 7}
