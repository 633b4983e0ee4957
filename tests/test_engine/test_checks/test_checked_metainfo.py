"""Checks of the metainfo of data sets; tests/test_tools makes them fail in the tools."""

import json

import pytest

from scopevit.engine import libraries
from scopevit.engine.checks.data import check_dataset_files
from scopevit.engine.checks.metainfo import check_metainfo, dataset_classes
from scopevit.errors import InputError

KEY = 'train_dataloader.dataset'


def test_classes_of_a_data_set_by_its_type():
    libraries.find_library('mmdet')
    assert len(dataset_classes(dict(type='CocoDataset'), 'mmdet')) == 80
    assert dataset_classes(dict(type='CocoDataset'), 'mmpose') == []


def test_classes_may_be_a_file_of_names(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text('Tree\n')
    check_metainfo(dict(metainfo=dict(classes=str(path))), KEY, 'mmdet')
    check_metainfo(dict(metainfo=dict(classes='http://somewhere/classes.txt')), KEY, 'mmdet')


@pytest.mark.parametrize(
    ('cfg', 'place'),
    [
        (dict(metainfo=dict(classes='Tree')), f'{KEY}.metainfo.classes'),
        (dict(classes='Tree'), f'{KEY}.classes'),
    ],
)
def test_classes_that_lack_a_comma(cfg, place):
    with pytest.raises(InputError) as error:
        check_metainfo(cfg, KEY, 'mmpretrain')
    assert str(error.value) == (
        f"{place} is the text 'Tree', and no file of names is there: "
        "a tuple of one name has a comma, ('Tree',)"
    )


@pytest.mark.parametrize(
    ('names', 'shown', 'advice'),
    [
        (['Tree'], 'Tree', "('Tree',)"),
        (['a', 'b'], 'a, b', "('a', 'b')"),
        (
            list('abcdef'),
            'a, b, c, d, e, ...',
            "('a', 'b', 'c', 'd', 'e', ...)",
        ),
    ],
)
def test_forgotten_metainfo_says_what_to_set(names, shown, advice, tmp_path):
    libraries.find_library('mmdet')
    path = tmp_path / 'a.json'
    categories = [dict(id=i, name=name) for i, name in enumerate(names)]
    path.write_text(json.dumps(dict(images=[], categories=categories)))
    with pytest.raises(InputError) as error:
        check_dataset_files(dict(type='CocoDataset', ann_file=str(path)), KEY, 'mmdet')
    assert str(error.value) == (
        f'{KEY} sets no metainfo, so its classes are the 80 of CocoDataset, but {path} has '
        f'{shown}: set metainfo=dict(classes={advice})'
    )


@pytest.mark.parametrize('metainfo', [None, dict(from_file='coco.py')])
def test_metainfo_of_poses_may_be_of_the_type_or_a_file(metainfo):
    check_metainfo(dict(metainfo=metainfo), KEY, 'mmpose')


def test_metainfo_of_poses_is_complete():
    metainfo = dict(keypoint_info={}, skeleton_info={}, joint_weights=[])
    with pytest.raises(InputError, match=f'^{KEY}.metainfo has no dataset_name, sigmas: of poses'):
        check_metainfo(dict(metainfo=metainfo), KEY, 'mmpose')
    check_metainfo(dict(metainfo=metainfo), KEY, 'mmdet')
    check_metainfo(dict(metainfo=metainfo | dict(dataset_name='a', sigmas=[])), KEY, 'mmpose')
