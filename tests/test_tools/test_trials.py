"""Own data in four formats, by the commands alone, as processes."""

import importlib
import json
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from own_images import QUICK, SMALL_HEADS
from tasks import DEMO

from scopevit.engine.config import load_config
from scopevit.errors import InputError
from scopevit.own_data.new import new_config

TRIALS = Path(__file__).parents[2] / 'tools' / 'trials'
NARROW = (
    *(
        f'model.{key}=16'
        for key in (
            'neck.out_channels',
            'rpn_head.in_channels',
            'rpn_head.feat_channels',
            'roi_head.bbox_roi_extractor.out_channels',
            'roi_head.bbox_head.in_channels',
            'roi_head.bbox_head.fc_out_channels',
            'roi_head.mask_roi_extractor.out_channels',
            'roi_head.mask_head.in_channels',
            'roi_head.mask_head.conv_out_channels',
        )
    ),
    'model.test_cfg.rpn.max_per_img=100',
)


@pytest.fixture
def trials(monkeypatch):
    """The modules of tools/trials."""
    monkeypatch.syspath_prepend(str(TRIALS))
    monkeypatch.delitem(sys.modules, 'run', raising=False)  # that of tools/demo
    return SimpleNamespace(run=importlib.import_module('run'), sets=importlib.import_module('sets'))


@pytest.fixture
def tried(trials, tmp_path):
    """A function that tries a set for an epoch; returns its result, predictions and folder."""

    def run(name, write, *settings):
        trial = trials.run.replace(trials.run.TRIALS[name], write=write)
        folder = tmp_path / name
        trials.run.run_trial(trial, folder, 'xtiny', 4, [*QUICK, *settings])
        result = json.loads((folder / 'result.json').read_text())
        assert list(result['seconds']) == ['new', 'check', 'train', 'test', 'predict']
        for row in result['validations']:  # there is none where nothing was found
            assert row.pop('step') == 1
            assert row == pytest.approx({key: result['tested'][key] for key in trial.metrics})
        assert f'| {name} ' in trials.run.write_readme(tmp_path)
        lines = (folder / 'predictions.jsonl').read_text().splitlines()
        assert len(lines) == len(list((folder / 'pictures').iterdir()))
        return result, [json.loads(line) for line in lines], folder

    return run


def annotations(folder: Path) -> list[dict]:
    contents = [json.loads((folder / 'own' / f'{n}.json').read_text()) for n in ('train', 'val')]
    return [item for content in contents for item in content['annotations']]


@pytest.mark.slow
def test_trees(tried):
    _, (found,), folder = tried('trees', partial(copytree, DEMO / 'trees'), *SMALL_HEADS)
    # Counted by `grep -c '<name>Tree' data/demo/trees/*.xml`, and so on.
    assert Counter(a['category_id'] for a in annotations(folder)) == {1: 9, 2: 28, 3: 61}
    assert load_config(folder / 'own.py').classes == ('Alive', 'Dead', 'Tree')
    assert found['width'] == found['height'] == 400


@pytest.mark.slow
def test_nuclei(trials, tried):
    write = partial(trials.sets.write_nuclei, count=4)
    result, found, folder = tried('nuclei', write, *NARROW)
    assert result['images'] == {'train': 4, 'val': 4}
    assert len(found) == 4
    expected = Counter()
    for split in ('train', 'val'):
        coco = json.loads((DEMO / f'nuclei/annotations/instances_{split}.json').read_text())
        ids = {image['id'] for image in coco['images'][:4]}
        expected += Counter(a['category_id'] for a in coco['annotations'] if a['image_id'] in ids)
    assert Counter(a['category_id'] for a in annotations(folder)) == expected
    cfg = load_config(folder / 'own.py')
    assert cfg.model.type == 'MaskRCNN'
    assert cfg.classes == ('connective', 'inflammatory', 'neoplastic')


@pytest.mark.slow
def test_people(trials, tried):
    write = partial(trials.sets.write_people, count=4)
    narrow = 'model.head.deconv_out_channels=[16,16,16]'
    result, found, _ = tried('people', write, narrow)
    assert result['images'] == {'train': 4, 'val': 4}
    coco = json.loads((DEMO / 'pose/annotations/person_keypoints_val.json').read_text())
    people = Counter(a['image_id'] for a in coco['annotations'])
    assert [len(one['people']) for one in found] == [
        people[image['id']] for image in coco['images'][:4]
    ]
    keypoints = found[0]['people'][0]['keypoints']
    assert [point['name'] for point in keypoints] == list(trials.sets.POINTS)


@pytest.mark.slow
def test_clothes(trials, tried):
    result, found, _ = tried('clothes', partial(trials.sets.write_clothes, count=10))
    assert result['images'] == {'train': 80, 'val': 20}
    assert len(found) == 8
    assert {top['label'] for one in found for top in one['classes']} <= set(trials.sets.CLOTHES)


def test_outline_has_the_area_of_its_mask(trials):
    mask = np.zeros((30, 40), np.uint8)
    cv2.ellipse(mask, (20, 15), (9, 6), 20, 0, 360, 1, -1)
    outline = trials.sets.outline_of(mask)
    assert cv2.contourArea(outline.astype(np.float32)) == pytest.approx(mask.sum(), rel=0.05)
    assert len(outline) < 40


def test_another_skeleton(trials, tmp_path):
    trials.sets.write_people(tmp_path / 'people', 2)
    item = json.loads((tmp_path / 'people' / 'val.json').read_text())['annotations'][0]
    coco = json.loads((DEMO / 'pose/annotations/person_keypoints_val.json').read_text())
    points = np.reshape(coco['annotations'][0]['keypoints'], (17, 3))
    found = np.reshape(item['keypoints'], (14, 3))
    assert found[13] == pytest.approx(points[0])  # the nose is the head
    assert found[12, :2] == pytest.approx((points[5, :2] + points[6, :2]) / 2, abs=0.01)
    assert item['num_keypoints'] == (found[:, 2] > 0).sum()
    config = new_config('pose', tmp_path / 'people', out=tmp_path / 'own.py')
    swaps = load_config(config).dataset_info.keypoint_info
    assert swaps[0].swap == 'lAnkle' and swaps[12].swap == swaps[13].swap == ''


def test_no_network(trials, tmp_path, monkeypatch):
    monkeypatch.setenv('PIP_INDEX_URL', 'http://127.0.0.1:9/simple')
    monkeypatch.setenv('PIP_RETRIES', '0')
    with pytest.raises(InputError, match='cannot download .* --package names a wheel'):
        trials.run.download(tmp_path)
