"""COCO files: ids, boxes, keypoints and classes that cannot be meant as they are."""

import json

import numpy as np
import pytest
import torch
from checked_sets import HEIGHT, WIDTH, CheckedSet, detection_set, pose_set
from mmengine.registry import DATASETS, METRICS, DefaultScope

from scopevit.boxes import are_corners, clip
from scopevit.engine.checks.coco import column, forget_files, numbers, read_coco
from scopevit.errors import InputError


@pytest.fixture
def boxes(tmp_path):
    return detection_set(tmp_path)


@pytest.fixture
def poses(tmp_path):
    return pose_set(tmp_path)


def shape(found) -> tuple:
    return found.level, found.what, found.where, found.count


# Ids and keys


def test_ids_that_repeat(boxes):
    boxes.coco['train']['images'][2]['id'] = 1
    boxes.coco['train']['annotations'][2]['image_id'] = 1
    found = {f.what: f for f in boxes.findings()}
    assert shape(found['ids of images repeated']) == ('error', 'ids of images repeated', 'train', 1)
    assert 'train.json: id 1 is there twice among images' in found['ids of images repeated'].text
    boxes.coco['val']['annotations'][0]['id'] = 2
    found = {f.what: f for f in boxes.findings()}
    assert found['ids of annotations repeated'].where == 'val'


@pytest.mark.parametrize(('name', 'what'), [('images', 'images'), ('annotations', 'annotations'),
                                            ('categories', 'categories')])  # fmt: skip
def test_something_without_an_id(name, what, boxes):
    del boxes.coco['train'][name][1]['id']
    found = {f.what: f for f in boxes.findings()}
    assert shape(found[f'{what} without id']) == ('error', f'{what} without id', 'train', 1)
    assert f'train.json: {what}[1] has no id' in found[f'{what} without id'].text


def test_two_categories_of_one_id(boxes):
    boxes.coco['train']['categories'][1]['id'] = 1
    found = {f.what: f for f in boxes.findings()}
    assert 'id 1 is there twice among categories' in found['ids of categories repeated'].text


def test_an_annotation_without_image_id(boxes):
    del boxes.coco['train']['annotations'][1]['image_id']
    found = {f.what: f for f in boxes.findings()}
    assert 'annotation 2 has no image_id' in found['annotations without image_id'].text


def text_ids(content: dict, rows: slice) -> None:
    """Makes texts of the ids of some images."""
    for image, annotation in list(zip(content['images'], content['annotations']))[rows]:
        annotation['image_id'] = image['id'] = f'{image["id"]}.png'


def test_ids_of_images_that_are_texts(boxes):
    # mmdet and its evaluation take them, see `test_texts_as_ids_have_the_same_metric`.
    text_ids(boxes.coco['train'], slice(None))
    assert boxes.findings() == []
    text_ids(boxes.coco['val'], slice(2))
    found = boxes.only()
    assert shape(found) == ('error', 'ids of images of two kinds', 'val', 2)
    assert "val.json: the ids of images are texts ('0.png') and numbers (2)" in found.text


@pytest.mark.parametrize('made', [str, lambda i: i + 0.5])
def test_ids_of_images_that_mmpose_cannot_use(made, poses):
    for image, annotation in zip(*(poses.coco['val'][k] for k in ('images', 'annotations'))):
        annotation['image_id'] = image['id'] = made(image['id'])
    found = poses.only()
    assert shape(found) == ('error', 'ids of images that are no numbers', 'val', 3)
    assert f'val.json: the id {made(0)!r} of an image must be a whole number' in found.text


def test_ids_of_annotations_that_are_texts(boxes):
    for split in ('train', 'val'):
        boxes.coco[split]['annotations'][1]['id'] = 'two'
    found = boxes.only()  # nothing reads those of a training
    assert shape(found) == ('error', 'ids of annotations that are no numbers', 'val', 1)


def test_texts_as_ids_have_the_same_metric(boxes):
    boxes.findings()  # writes the files
    scores = [score(boxes)]
    text_ids(boxes.coco['val'], slice(None))
    boxes.findings()
    scores.append(score(boxes))
    assert scores[0] == scores[1] and 0 < scores[0] < 1


def score(checked: CheckedSet) -> float:
    """Returns mmdet's AP of predictions that are four pixels too far to the right."""
    dataset = dict(checked.cfg['val_dataloader']['dataset'], test_mode=True)
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = METRICS.build(checked.cfg['val_evaluator'])
        samples = DATASETS.build(dataset)
    metric.dataset_meta = samples.metainfo
    for i in range(len(samples)):
        info = samples.get_data_info(i)
        boxes = torch.tensor([one['bbox'] for one in info['instances']]) + torch.tensor(
            [4, 0, 4, 0]
        )
        labels = torch.tensor([one['bbox_label'] for one in info['instances']])
        found = dict(bboxes=boxes.float(), labels=labels, scores=torch.ones(len(boxes)))
        place = dict(img_id=info['img_id'], ori_shape=(HEIGHT, WIDTH))
        metric.process({}, [dict(place, pred_instances=found)])
    return metric.evaluate(size=len(samples))['coco/bbox_mAP']


def test_annotation_id_0(boxes):
    boxes.coco['val']['annotations'][1]['id'] = 0
    assert shape(boxes.only()) == ('warning', 'annotation id 0', 'val', 1)


def test_no_images(boxes):
    boxes.coco['train'] |= dict(images=[], annotations=[])
    found = boxes.only()
    assert shape(found) == ('error', 'no images', 'train', 1)


@pytest.mark.parametrize('area', [None, '288', 10**400])
def test_area_that_is_no_number(area, boxes):
    boxes.coco['train']['annotations'][1]['area'] = area
    assert shape(boxes.only()) == ('error', 'no area', 'train', 1)


@pytest.mark.parametrize('box', [['20', '10', '18', '16'], [10**400, 1, 2, 3]])
def test_box_of_no_numbers(box, boxes):
    boxes.coco['train']['annotations'][1]['bbox'] = box
    assert shape(boxes.only()) == ('error', 'boxes that are none', 'train', 1)


def test_settings_of_another_kind(boxes):
    dataset = boxes.cfg['train_dataloader']['dataset']
    dataset['metainfo'] = dict(classes=('cat', 'dog'), palette=['red', 'blue'])
    assert boxes.findings() == []  # colours by name, which the check has no use for
    dataset['filter_cfg'] = dict(min_size='32')
    assert "filter_cfg.min_size must be a number of pixels, not '32'" in boxes.only().text
    dataset['filter_cfg'] = None
    dataset['metainfo'] = dict(classes=[1, 2])
    found = boxes.findings()
    assert any('classes without a category: 1, 2' in one.text for one in found)


def test_annotation_of_no_image(boxes):
    extra = dict(boxes.coco['train']['annotations'][0], id=9, image_id=77)
    boxes.coco['train']['annotations'].append(extra)
    found = boxes.only()
    assert shape(found) == ('warning', 'annotations of no image', 'train', 1)
    assert 'image_id 77 of annotation 9 is none of images' in found.text


def test_unknown_category(boxes):
    boxes.coco['train']['annotations'][1]['category_id'] = 5
    found = {f.what: f for f in boxes.findings()}
    assert found['unknown category_id'].count == 1
    assert 'category_id 5 of annotation 2 is none' in found['unknown category_id'].text
    assert found['files'].level == 'error'  # what every training says of it


@pytest.mark.parametrize(
    ('split', 'name', 'readers'),
    [
        ('train', 'area', ['mmdet']),
        ('val', 'area', ['mmdet', 'the evaluation']),
        ('val', 'iscrowd', ['the evaluation']),
    ],
)
def test_keys_that_somebody_reads(split, name, readers, boxes):
    for annotation in boxes.coco[split]['annotations'][:2]:
        del annotation[name]
    found = boxes.only()
    assert found.level == 'error' and found.what == f'no {name}' and found.where == split
    assert found.count == 2 * len(readers)
    assert f'no {name}, which {readers[0]} reads' in found.text


@pytest.mark.parametrize('value', ['0', {}, None, float('nan'), 1990, -1, 10**400])
def test_iscrowd_that_is_no_number(value, boxes):
    boxes.coco['val']['annotations'][1]['iscrowd'] = value
    found = boxes.only()
    assert shape(found) == ('error', 'no iscrowd', 'val', 1)
    assert found.text.endswith('which the evaluation reads: make it 0 or 1')


def test_images_without_size_or_name(boxes):
    del boxes.coco['train']['images'][1]['width']
    assert shape(boxes.only()) == ('error', 'no width or height', 'train', 1)
    boxes.coco['train']['images'][1] |= dict(width=64)
    del boxes.coco['train']['images'][1]['file_name']
    found = {f.what: f for f in boxes.findings()}
    assert 'image 1 has no file_name' in found['no file_name'].text


def test_nothing_annotated(boxes):
    boxes.coco['val']['annotations'] = []
    found = boxes.only()
    assert shape(found) == ('error', 'no annotations', 'val', 3)
    assert 'val.json: no image has an annotation: there is nothing to compare with' in found.text


def test_every_annotation_a_crowd(boxes):
    for annotation in boxes.coco['train']['annotations']:
        annotation['iscrowd'] = 1
    found = boxes.only()
    assert shape(found) == ('error', 'no annotation counts', 'train', 3)
    assert 'every annotation is a crowd' in found.text


def test_images_without_annotation(boxes):
    boxes.coco['train']['annotations'].pop(2)
    found = boxes.only()
    assert shape(found) == ('note', 'images without annotation', 'train', 1)
    assert found.files == (str(boxes.image('train', 2)),)


def test_a_file_is_read_once(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(dict(images=[], annotations=[], categories=[])))
    forget_files()
    first = read_coco(path, 'key')
    assert read_coco(path, 'key') is first
    path.write_text('[1, 2')
    with pytest.raises(InputError, match=r'not JSON: .*a\.json \(key\)'):
        read_coco(path, 'key')
    path.write_text(json.dumps(dict(images=[1], categories=[])))
    with pytest.raises(InputError, match='not COCO annotations'):
        read_coco(path, 'key')
    for text in ('5', 'null', '"images"'):
        path.write_text(text)
        with pytest.raises(InputError, match=r'not COCO annotations: .*a\.json \(key\): it is'):
            read_coco(path, 'key')
    path.write_text('[{"image_id": 1}]')  # boxes of a detector
    assert not read_coco(path, 'key').is_coco


# Boxes


def test_corners_in_the_place_of_width_and_height(boxes):
    for annotation in boxes.coco['train']['annotations']:
        annotation['bbox'] = [20, 10, 38, 26]
    boxes.coco['train']['annotations'][2]['bbox'] = [40, 10, 60, 26]
    found = boxes.only()
    # 20 + 38 = 58 and 10 + 26 = 36 are within 64 and 48; 40 + 60 = 100 is not.
    assert shape(found) == ('error', 'boxes look like xyxy', 'train', 1)
    assert f'{boxes.image("train", 2)}: box [40, 10, 60, 26]' in found.text.replace('.0', '')
    assert 'looks like x1, y1, x2, y2' in found.text


def test_boxes_outside_the_image(boxes):
    boxes.coco['train']['annotations'][1]['bbox'] = [1020, 10, 18, 16]
    found = boxes.only()
    assert shape(found) == ('error', 'boxes outside the image', 'train', 1)
    assert found.text.startswith(f'{boxes.image("train", 1)}: box [1020.0, 10.0, 18.0, 16.0]')
    assert found.files == (str(boxes.image('train', 1)),)


def test_a_few_boxes_of_many_are_a_warning(boxes):
    content = boxes.coco['train']
    one = content['annotations'][0]
    content['annotations'] += [dict(one, id=10 + i) for i in range(200)]
    content['annotations'].append(dict(one, id=500, bbox=[1020, 10, 18, 16]))
    content['annotations'].append(dict(one, id=501, bbox=[20, 10, 0, 16]))
    found = {f.what: shape(f) for f in boxes.findings() if f.level != 'note'}
    assert set(found) == {'boxes outside the image', 'boxes without area'}
    assert all(row[0] == 'warning' and row[3] == 1 for row in found.values())


@pytest.mark.parametrize(
    ('box', 'level', 'what'),
    [
        ([20, 10, 0, 16], 'error', 'boxes without area'),
        ([20, 10, 18, -3], 'error', 'boxes without area'),
        ([20, 10, 0.5, 16], 'error', 'boxes below a pixel'),
        ([-30, 10, 60, 16], 'warning', 'boxes across the border'),
        ([20, 10, 60, 16], 'warning', 'boxes across the border'),
        ([20, 10, 18], 'error', 'boxes that are none'),
        (None, 'error', 'boxes that are none'),
        ([20, 10, float('nan'), 16], 'error', 'boxes that are none'),
    ],
)
def test_wrong_boxes(box, level, what, boxes):
    boxes.coco['train']['annotations'][0]['bbox'] = box
    found = boxes.only()
    assert shape(found) == (level, what, 'train', 1)
    assert str(boxes.image('train', 0)) in found.text


def test_boxes_in_shares_of_the_image(boxes):
    for annotation in boxes.coco['val']['annotations']:
        annotation['bbox'] = [0.3, 0.2, 0.25, 0.5]
    assert shape(boxes.only()) == ('error', 'boxes in shares', 'val', 3)


def test_area_0(boxes):
    for annotation in boxes.coco['train']['annotations']:
        annotation['area'] = 0
    assert shape(boxes.only()) == ('error', 'area 0', 'train', 3)


def test_filter_that_leaves_nothing(boxes):
    boxes.cfg['train_dataloader']['dataset']['filter_cfg'] = dict(min_size=49)
    found = boxes.only()
    assert shape(found) == ('error', 'filter leaves nothing', 'train', 3)
    assert "train_dataloader.dataset.filter_cfg={'min_size': 49} leaves no image" in found.text
    boxes.coco['train']['images'][0] |= dict(width=64, height=64)
    found = boxes.only()
    assert shape(found) == ('note', 'images filtered', 'train', 2)


def test_corners_and_clipping_by_hand():
    sizes = np.array([[100, 80]] * 4)
    corners = np.array([[10, 10, 90, 70], [50, 40, 60, 50], [60, 5, 90, 20], [1, 2, 3, 4]])
    assert are_corners(corners, sizes)
    assert not are_corners(corners[3:], sizes[3:])  # reaches out nowhere
    assert not are_corners(np.array([[50, 40, 60, 30]]), sizes[:1])  # 40 > 30 is no corner
    assert not are_corners(np.zeros((0, 4)), np.zeros((0, 2)))
    assert clip(np.array([[-5, 70, 20, 30]]), sizes[:1]).tolist() == [[0, 70, 15, 10]]


# Classes


def test_categories_in_two_orders(boxes):
    boxes.coco['val']['categories'].reverse()
    found = {f.what: f for f in boxes.findings()}
    assert shape(found['classes differ']) == ('error', 'classes differ', 'train, val', 1)
    assert (
        'label 0 is cat in train_dataloader.dataset and dog in val' in found['classes differ'].text
    )


def test_names_in_another_order_than_the_file(boxes):
    for split in ('train', 'val'):
        boxes.cfg[f'{split}_dataloader']['dataset']['metainfo'] = dict(classes=('dog', 'cat'))
    found = boxes.findings()
    assert [shape(f) for f in found] == [
        ('error', 'names in another order', 'train', 2),
        ('error', 'names in another order', 'val', 2),
    ]
    assert 'calls label 0 dog, but it is cat' in found[0].text


def test_classes_that_never_occur(boxes):
    for annotation in boxes.coco['val']['annotations']:
        annotation['category_id'] = 1
    found = boxes.only()
    assert shape(found) == ('warning', 'classes that never occur', 'val', 1)
    assert found.text == 'val_dataloader.dataset: dog never occurs; its metric is NaN'


def test_unequal_classes(boxes):
    one = boxes.coco['train']['annotations'][0]
    boxes.coco['train']['annotations'] += [dict(one, id=10 + i) for i in range(40)]
    found = boxes.only()
    assert shape(found) == ('note', 'classes are unequal', 'train', 2)
    assert 'cat occurs 42 times, dog 1' in found.text


def test_wrapped_data_sets(boxes):
    train = boxes.cfg['train_dataloader']
    parts = [train['dataset'], dict(train['dataset'], indices=[0])]
    train['dataset'] = dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=parts)
    )
    boxes.coco['train']['annotations'][1]['bbox'] = [1020, 10, 18, 16]
    # One box, though two parts have its file.
    assert shape(boxes.only()) == ('error', 'boxes outside the image', 'train', 1)


# Metrics


def test_metric_of_another_file(boxes):
    boxes.cfg['val_evaluator']['ann_file'] = str(boxes.folder / 'train.json')
    found = boxes.only()
    assert shape(found) == ('error', 'metric of other images', 'val', 3)
    assert 'val_evaluator.ann_file is' in found.text and 'both must be one file' in found.text
    copy = json.loads(json.dumps(boxes.coco['val']))
    boxes.coco['copy'] = copy
    boxes.cfg['val_evaluator']['ann_file'] = str(boxes.folder / 'copy.json')
    assert boxes.findings() == []
    copy['annotations'][0]['bbox'] = [1, 1, 5, 5]
    assert shape(boxes.only()) == ('warning', 'metric of other annotations', 'val', 1)


# Keypoints


def test_keypoints_of_wrong_length(poses):
    for annotation in poses.coco['train']['annotations']:
        annotation['keypoints'] = annotation['keypoints'][:6]
    found = poses.only()
    assert shape(found) == ('error', 'keypoints of wrong length', 'train', 3)
    assert '2 keypoints a person in' in found.text and 'lists 3' in found.text


def test_no_keypoint_visible(poses):
    for annotation in poses.coco['val']['annotations']:
        annotation['keypoints'][2::3] = [0, 0, 0]
    assert shape(poses.only()) == ('error', 'no visible keypoint', 'val', 3)


def test_num_keypoints_0(poses):
    for annotation in poses.coco['train']['annotations']:
        annotation['num_keypoints'] = 0
    assert shape(poses.only()) == ('error', 'num_keypoints 0', 'train', 3)


def test_keypoints_outside_the_image(poses):
    poses.coco['train']['annotations'][1]['keypoints'][3:5] = [70, 18]
    found = poses.only()
    assert shape(found) == ('warning', 'keypoints outside the image', 'train', 1)
    assert f'{poses.image("train", 1)}: left_eye at [70.0, 18.0] lies outside' in found.text


def test_keypoint_that_is_never_visible(poses):
    for annotation in poses.coco['train']['annotations']:
        annotation['keypoints'][8] = 0
    found = poses.only()
    assert shape(found) == ('warning', 'keypoints that never occur', 'train', 1)
    assert 'right_eye never occurs; it cannot be learnt' in found.text


@pytest.mark.parametrize('value', [10**400, float('nan'), '30', None, [1]])
def test_keypoints_that_are_no_numbers(value, poses):
    poses.coco['train']['annotations'][1]['keypoints'][3] = value
    del poses.coco['train']['annotations'][2]['keypoints']  # those without are left out
    found = {f.what: f for f in poses.findings() if f.level == 'error'}
    assert shape(found['keypoints that are none']) == (
        'error',
        'keypoints that are none',
        'train',
        1,
    )
    assert 'keypoints of annotation 2 must be' in found['keypoints that are none'].text


@pytest.mark.parametrize('name', ['keypoints', 'num_keypoints'])
def test_what_evaluation_reads_of_keypoints(name, poses):
    for split in ('train', 'val'):  # a training leaves such annotations out
        del poses.coco[split]['annotations'][0][name]
    found = [f for f in poses.findings() if f.level == 'error']
    assert [shape(f) for f in found] == [('error', f'no {name}', 'val', 1)]


def test_lists_are_no_numbers():
    np.testing.assert_array_equal(column([[1], [2]]), [np.nan, np.nan])
    np.testing.assert_array_equal(column([1, [2], None, 3]), [1, np.nan, np.nan, 3])
    np.testing.assert_array_equal(numbers([[[1, 2]], [3, 4], None], 2),
                                  [[np.nan] * 2, [3, 4], [np.nan] * 2])  # fmt: skip


def test_segments_of_panoptic_annotations_are_read_as_annotations(tmp_path):
    segment = dict(id=5, category_id=2, iscrowd=0, area=12, bbox=[1, 2, 3, 4])
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=9, height=9) for i in (1, 2)],
        annotations=[
            dict(image_id=1, file_name='1.png', segments_info=[segment, dict(segment, id=6)]),
            dict(image_id=2, file_name='2.png', segments_info=[dict(segment, iscrowd=1)]),
        ],
        categories=[dict(id=2, name='sky', isthing=0)],
    )
    path = tmp_path / 'panoptic.json'
    path.write_text(json.dumps(content))
    coco = read_coco(path, 'key')
    assert (coco.ids, coco.owners.tolist()) == ([1, 2, 3], [0, 0, 1])
    assert (coco.category_ids, coco.repeated['annotations']) == ([2, 2, 2], [])
    assert coco.boxes.tolist() == [[1, 2, 3, 4]] * 3
    assert coco.crowds.tolist() == [False, False, True]
