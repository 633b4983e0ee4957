"""Own data in YOLO's format."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from own_images import SMALL_HEADS, make_image
from pycocotools.coco import COCO
from tasks import DEMO

from scopevit.engine.config import load_config


@pytest.fixture
def write_yolo(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes two images for training and one for validation, 100x50."""

    def run(labels: str, **changes: object) -> Path:
        folder = tmp_path / 'yolo'
        for name in ('train/0', 'train/1', 'val/2'):
            make_image(folder / 'images' / f'{name}.png', 100, 50)
            (folder / 'labels' / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / 'labels' / f'{name}.txt').write_text(labels)
        content = dict(train='images/train', val='images/val', names={0: 'cat', 1: 'dog'})
        (folder / 'data.yaml').write_text(yaml.safe_dump(content | changes))
        return folder

    return run


def annotations(config: Path, split: str = 'train') -> list[dict]:
    return json.loads((config.with_suffix('') / f'{split}.json').read_text())['annotations']


def test_boxes(write_yolo, write):
    # Centre, width and height as shares of 100x50 pixels.
    folder = write_yolo('1 0.5 0.4 0.2 0.4\n0 0.25 0.5 0.1 0.2\n')
    config, said = write('detection', folder)
    assert [(a['category_id'], a['bbox']) for a in annotations(config)[:2]] == [
        (2, [40, 10, 20, 20]), (1, [20, 20, 10, 10]),
    ]  # fmt: skip
    assert 'cat 2 + 1, dog 2 + 1' in said
    assert load_config(config).model.type == 'RetinaNet'


def test_segments(write_yolo, write):
    folder = write_yolo('0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n')
    config, _ = write('detection', folder / 'data.yaml')
    found = annotations(config)[0]
    assert found['bbox'] == [10, 10, 20, 20]
    assert found['segmentation'] == [[10, 10, 30, 10, 30, 30, 10, 30]]
    assert found['area'] == 400
    assert load_config(config).model.type == 'MaskRCNN'


@pytest.mark.parametrize(
    ('labels', 'changes', 'line'),
    [
        ('2 0.5 0.5 0.1 0.1', {}, 'line 1: class 2, but data.yaml has 2 names, 0 to 1'),
        ('\n-1 0.5 0.5 0.1 0.1', {}, 'line 2: class -1'),
        ('0 0.5 0.5 0.1', {}, '4 numbers, where a class, a box or polygon is meant'),
        ('0 50 20 10 10', {}, '50 is not from 0 to 1; pixels'),
        ('cat 0.5 0.5 0.1 0.1', {}, "numbers are meant, not 'cat"),
        ('', {}, 'no image has an annotated object'),
        ('0 0.5 0.5 0.1 0.1', {'nc': 3}, 'nc is 3, but there are 2 names'),
        ('0 0.5 0.5 0.1 0.1', {'names': ['a', 'a']}, 'two classes have one name'),
        ('0 0.5 0.5 0.1 0.1', {'names': {1: 'a', 2: 'b'}}, 'numbered from 0 on'),
        ('0 0.5 0.5 0.1 0.1', {'names': {0: 'a', 'b': 1}}, 'numbered from 0 on'),
        ('0 0.5 0.5 0.1 0.1', {'val': 'images/none'}, 'no such folder or list: images/none'),
        ('0 0.5 0.5 0.1 0.1', {'val': 'x' * 300}, 'no such folder or list: xxx'),
        ('0 0.5 0.5 0.1 0.1', {'path': 'x' * 300, 'nc': 3}, 'nc is 3, but there are 2 names'),
        ('0 0.5 0.5 0.1 0.1', {'path': 'x' * 300, 'val': 'y'}, 'no such folder or list: y'),
    ],
)
def test_bad_labels(labels, changes, line, write_yolo, refuses):
    assert line in refuses('detection', write_yolo(labels, **changes))


@pytest.mark.parametrize(
    'changes',
    [
        {'flip_idx': [0, 'a', 1]}, {'flip_idx': [0, {}, 1]}, {'flip_idx': 5}, {'kpt_names': 5},
        {'kpt_names': {'cat': 5}}, {'flip_idx': [0, True, 2]}, {'flip_idx': [0, 1]},
    ],
)  # fmt: skip
def test_bad_keypoints(changes, write_yolo, refuses):
    folder = write_yolo('0 0.5 0.5 0.1 0.1' + ' 0.5 0.5 2' * 3, kpt_shape=[3, 3], **changes)
    assert 'data.yaml: kpt_names and flip_idx must have one of each 3' in refuses('pose', folder)


def test_a_deep_description(write_yolo, refuses):
    folder = write_yolo('0 0.5 0.5 0.1 0.1')
    (folder / 'data.yaml').write_text('names: ' + '[' * 5_000 + ']' * 5_000)
    assert 'data.yaml as YAML: maximum recursion depth' in refuses('detection', folder)


def test_names_in_two_orders(write_yolo, refuses):
    folder = write_yolo('0 0.5 0.5 0.1 0.1')
    (folder / 'labels' / 'classes.txt').write_text('dog\ncat\n')
    line = refuses('detection', folder)
    assert 'has the classes dog, cat, data.yaml cat, dog: the order' in line


def test_mixed_formats(write_yolo, refuses):
    folder = write_yolo('0 0.5 0.5 0.1 0.1')
    content = dict(images=[], annotations=[], categories=[])
    (folder / 'boxes.json').write_text(json.dumps(content))
    line = refuses('detection', folder)
    assert 'several kinds: COCO (boxes.json), YOLO (data.yaml); give the file itself' in line


@pytest.mark.slow
def test_train_on_boxes(write_yolo, write, trains):
    config, _ = write('detection', write_yolo('1 0.5 0.4 0.2 0.4\n'))
    trains(config, *SMALL_HEADS)


@pytest.fixture
def nuclei(tmp_path: Path) -> Path:
    """The largest outlines of six tiles of nuclei as YOLO's segments."""
    import cv2

    coco = COCO(DEMO / 'nuclei' / 'annotations' / 'instances_val.json')
    folder = tmp_path / 'nuclei'
    for item in coco.loadImgs(coco.getImgIds()[:6]):
        source = DEMO / 'nuclei' / 'images' / 'val' / item['file_name']
        image = folder / 'images' / item['file_name']
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(source.read_bytes())
        lines = []
        for found in coco.loadAnns(coco.getAnnIds(item['id'])):
            outlines, _ = cv2.findContours(
                coco.annToMask(found), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            points = max(outlines, key=len).reshape(-1, 2) / [item['width'], item['height']]
            if len(points) > 2:
                numbers = ' '.join(f'{v:.5f}' for v in points.ravel())
                lines.append(f'{found["category_id"] - 1} {numbers}\n')
        (folder / 'labels').mkdir(exist_ok=True)
        (folder / 'labels' / f'{Path(item["file_name"]).stem}.txt').write_text(''.join(lines))
    names = [c['name'] for c in coco.loadCats(coco.getCatIds())]
    content = dict(train='images', val='images', names=names)
    (folder / 'data.yaml').write_text(yaml.safe_dump(content))
    return folder


@pytest.mark.slow
def test_train_on_nuclei(nuclei, write, trains):
    config, said = write('detection', nuclei)
    assert 'train and val name the same images' in said
    trains(
        config, 'model.neck.out_channels=32',
        'model.rpn_head.in_channels=32', 'model.rpn_head.feat_channels=32',
        'model.roi_head.bbox_roi_extractor.out_channels=32',
        'model.roi_head.mask_roi_extractor.out_channels=32',
        'model.roi_head.bbox_head.in_channels=32', 'model.roi_head.mask_head.in_channels=32',
        'model.roi_head.mask_head.conv_out_channels=32', 'model.test_cfg.rcnn.max_per_img=5',
        'model.roi_head.bbox_head.fc_out_channels=32',
    )  # fmt: skip
