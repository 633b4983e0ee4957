"""What results become: JSON, COCO's results, supervision's classes, pictures."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from scopevit.errors import InputError
from scopevit.inference import (
    ClassificationResult,
    DetectionResult,
    Labels,
    PoseResult,
    SegmentationResult,
)

LABELS = Labels(
    classes=('cat', 'Büro'),
    palette=((255, 0, 0), (0, 255, 0)),
    keypoints=('nose', 'tail'),
    skeleton=((0, 1),),
)
SIZE = (240, 480)  # not enlarged
COMMON = dict(source='a.jpg', name='a.jpg', size=SIZE, labels=LABELS)
GRAY = np.full((*SIZE, 3), 100, np.uint8)
MASK = np.zeros(SIZE, bool)
MASK[50:100, 200:260] = True


def classification(**image) -> ClassificationResult:
    return ClassificationResult(
        classes=np.array([1, 0]), scores=np.array([0.75, 0.25]), **(COMMON | image)
    )


def detection(**image) -> DetectionResult:
    return DetectionResult(
        boxes=np.array([[200, 50, 260, 100]], np.float32),
        scores=np.array([0.5], np.float32),
        classes=np.array([1]),
        rles=(coco_mask.encode(np.asfortranarray(MASK, np.uint8)),),
        **(COMMON | image),
    )


def segmentation(**image) -> SegmentationResult:
    # A class that is black, a background, is left out of pictures.
    labels = Labels(classes=LABELS.classes, palette=((0, 0, 0), (0, 255, 0)))
    common = COMMON | {'labels': labels}
    return SegmentationResult(**{'class_map': MASK.astype(np.uint8)} | common | image)


def pose(**image) -> PoseResult:
    return PoseResult(
        keypoints=np.array([[[210.0, 60.0], [250.0, 90.0]]]),
        keypoint_scores=np.array([[0.5, 1.0]]),
        boxes=np.array([[200.0, 50.0, 260.0, 100.0]]),
        box_scores=np.array([0.8]),
        **(COMMON | image),
    )


ALL = [classification, detection, segmentation, pose]


def test_classification():
    result = classification(frame=3)
    assert json.loads(json.dumps(result.to_dict())) == {
        'source': 'a.jpg', 'height': 240, 'width': 480, 'frame': 3,
        'classes': [
            {'class': 1, 'label': 'Büro', 'score': 0.75},
            {'class': 0, 'label': 'cat', 'score': 0.25},
        ],
    }  # fmt: skip
    assert result.to_coco(7)[0] == {'image_id': 7, 'category_id': 1, 'score': 0.75}
    assert result.summary() == 'Büro 0.75, cat 0.25'


def test_detection():
    result = detection()
    (one,) = json.loads(json.dumps(result.to_dict()))['objects']
    assert (one['class'], one['label'], one['score']) == (1, 'Büro', 0.5)
    assert one['box'] == [200, 50, 260, 100]
    assert (coco_mask.decode(one['mask']) == MASK).all()
    (coco,) = json.loads(json.dumps(result.to_coco(7)))
    assert coco['bbox'] == [200, 50, 60, 50]
    assert (coco['image_id'], coco['category_id'], coco['score']) == (7, 1, 0.5)
    assert coco_mask.area(coco['segmentation']) == MASK.sum()
    assert (result.masks == MASK[None]).all()
    assert result.summary() == '1 Büro'


def test_segmentation():
    result = segmentation()
    classes = json.loads(json.dumps(result.to_dict()))['classes']
    share = 50 * 60 / (240 * 480)
    assert [one['label'] for one in classes] == ['cat', 'Büro']
    assert classes[1]['share'] == pytest.approx(share, abs=1e-6)
    assert (coco_mask.decode(classes[1]['mask']) == MASK).all()
    assert [one['category_id'] for one in result.to_coco()] == [0, 1]
    assert result.summary() == 'cat 97%, Büro 3%'


def test_pose():
    result = pose()
    (person,) = json.loads(json.dumps(result.to_dict()))['people']
    assert person['keypoints'] == [
        {'name': 'nose', 'x': 210, 'y': 60, 'score': 0.5},
        {'name': 'tail', 'x': 250, 'y': 90, 'score': 1},
    ]
    (coco,) = json.loads(json.dumps(result.to_coco()))
    assert coco['keypoints'] == [210, 60, 0.5, 250, 90, 1]
    assert coco['score'] == pytest.approx(0.8 * 0.75)


@pytest.mark.parametrize('make', ALL)
def test_pictures_keep_what_is_not_predicted(make):
    picture = make(image=GRAY).plot()
    height, width = SIZE
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (width, 3)
    assert picture.shape[0] > height
    drawn = (picture[:height] != 100).any(axis=2)
    # Nothing but the mask's surroundings, with a label above it.
    assert not drawn[:, :190].any() and not drawn[:, 270:].any() and not drawn[110:].any()
    assert drawn.any() == (make is not classification)
    assert (picture[height:] < 128).any()  # text on white


def test_masks_have_the_colour_of_their_class():
    for result in (detection(image=GRAY), segmentation(image=GRAY)):
        red, green, blue = result.plot()[75, 230].tolist()
        assert green > 150 and red < 100 and blue < 100


@pytest.mark.parametrize('make', ALL)
def test_small_gray_images_are_enlarged(make):
    small = np.zeros((24, 48), np.uint8)
    options = {segmentation: dict(class_map=small), detection: dict(rles=None)}.get(make, {})
    result = dataclasses.replace(make(), image=small, size=(24, 48), **options)
    assert result.plot().shape[1:] == (480, 3)


@pytest.mark.parametrize('make', ALL)
def test_frames_of_a_video_have_one_size(make):
    empty = {
        detection: dict(boxes=np.zeros((0, 4)), scores=np.zeros(0), classes=np.zeros(0, int)),
        pose: dict(keypoints=np.zeros((0, 2, 2)), keypoint_scores=np.zeros((0, 2)),
                   boxes=np.zeros((0, 4)), box_scores=np.zeros(0)),
        segmentation: dict(class_map=np.zeros(SIZE, np.uint8)),
        classification: dict(classes=np.array([0, 1]), scores=np.array([0.9, 0.1])),
    }[make]  # fmt: skip
    other = type(make())(**empty, **(COMMON | dict(image=GRAY)))
    assert other.plot().shape == make(image=GRAY).plot().shape
    assert json.loads(json.dumps(other.to_dict()))
    assert isinstance(other.summary(), str)


@pytest.mark.parametrize('make', ALL)
def test_supervision_is_asked_for_in_one_line(make, monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(InputError, match='pip install supervision'):
        make().to_supervision()


def test_supervision():
    sv = pytest.importorskip('supervision')
    found = detection().to_supervision()
    assert isinstance(found, sv.Detections)
    assert (found.mask == MASK[None]).all()
    assert found.data['class_name'].tolist() == ['Büro']
    assert segmentation().to_supervision().class_id.tolist() == [0, 1]
    assert segmentation().to_supervision().xyxy[1].tolist() == [200, 50, 259, 99]
    assert pose().to_supervision().xy.tolist() == pose().keypoints.tolist()
    assert classification().to_supervision().class_id.tolist() == [1, 0]
