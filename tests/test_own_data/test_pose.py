"""Own data of pose: COCO and YOLO with any keypoints."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from own_images import make_image
from tasks import DEMO

from scopevit.engine.config import load_config
from scopevit.own_data.pose import flip_pairs, words_of
from scopevit.own_data.samples import Skeleton

# Five of the 17 points of COCO, by other names.
POINTS = {0: 'snout', 9: 'pawLeft', 10: 'pawRight', 15: 'heelLeft', 16: 'heelRight'}


@pytest.fixture
def people(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes three images of people with five points."""

    def run(**category: object) -> Path:
        source = DEMO / 'pose'
        content = json.loads((source / 'annotations' / 'person_keypoints_val.json').read_text())
        content['images'] = content['images'][:3]
        ids = {image['id'] for image in content['images']}
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] in ids]
        for item in content['annotations']:
            points = np.reshape(item['keypoints'], (17, 3))[list(POINTS)]
            item['keypoints'] = points.ravel().tolist()
        named = dict(keypoints=list(POINTS.values()), skeleton=[[1, 2], [1, 3]])
        content['categories'] = [dict(id=1, name='acrobat', **(named | category))]
        folder = tmp_path / 'people'
        (folder / 'images').mkdir(parents=True, exist_ok=True)
        for image in content['images']:
            file = source / 'images' / 'val' / image['file_name']
            (folder / 'images' / image['file_name']).write_bytes(file.read_bytes())
        (folder / 'points.json').write_text(json.dumps(content))
        return folder

    return run


def metainfo(config: Path) -> dict:
    """Returns what mmpose makes of the skeleton."""
    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    return parse_pose_metainfo(load_config(config).train_dataloader.dataset.metainfo)


def test_another_skeleton(people, write):
    config, said = write('pose', people())
    assert '5 keypoints, 2 images to train on, 1 to validate on' in said
    cfg, info = load_config(config), metainfo(config)
    assert cfg.model.head.out_channels == 5
    assert cfg.model.head.decoder == cfg.train_pipeline[6].encoder
    assert info['flip_indices'] == [0, 2, 1, 4, 3]
    assert info['skeleton_links'] == [[0, 1], [0, 2]] or info['skeleton_links'] == [(0, 1), (0, 2)]
    assert info['sigmas'].tolist() == pytest.approx([0.067] * 5)
    # People stand: 192 wide, 256 high.
    assert cfg.codec.input_size == (192, 256)
    content = json.loads(Path(cfg.val_evaluator.ann_file).read_text())
    assert {len(a['keypoints']) for a in content['annotations']} == {15}
    assert content['categories'][0]['keypoints'] == list(POINTS.values())


def test_flips(people, write):
    cfg = load_config(write('pose', people())[0])
    assert (cfg.train_pipeline[2].get('prob', 0.5), cfg.model.test_cfg.flip_test) == (0.5, True)
    folder = people(keypoints=[f'p{i}' for i in range(5)])
    config, said = write('pose', folder, force=True)
    assert 'nothing says which keypoints are left and right: images are not flipped' in said
    cfg = load_config(config)
    assert (cfg.train_pipeline[2].prob, cfg.model.test_cfg.flip_test) == (0.0, False)


@pytest.mark.parametrize(
    ('names', 'pairs'),
    [
        (['left_eye', 'right_eye', 'nose'], [(0, 1)]),
        (['Reye', 'Leye'], []),  # no words of their own
        (['R_eye', 'L_eye'], [(1, 0)]),
        (['eye.r', 'eye.l'], [(1, 0)]),
        (['EyeLeft', 'EyeRight', 'lefteye', 'righteye'], [(0, 1), (2, 3)]),
        (['left_1', 'left_2', 'right_2'], [(1, 2)]),
        (['head', 'tail'], []),
        (['0', '1'], None),
    ],
)
def test_flip_pairs(names, pairs):
    assert flip_pairs(Skeleton(names)) == pairs


def test_words():
    assert words_of('LeftShoulder_2') == ('left', 'shoulder', '2')


def test_bad_keypoints(people, refuses):
    line = refuses('pose', people(keypoints=['a', 'b', 'c', 'd']))
    assert 'keypoints must be 12 numbers' in line
    line = refuses('pose', people(skeleton=[[1, 6]]))
    assert 'skeleton has [1, 6]; links go from 1 to 5' in line
    line = refuses('pose', people(keypoints=['a', 'a', 'b', 'c', 'd']))
    assert 'two keypoints have one name' in line
    for link in ([1], [1, 'a'], 5, None, [1, 2.5]):
        assert 'links go from 1 to 5' in refuses('pose', people(skeleton=[link]))
    assert 'skeleton of a category must be a list' in refuses('pose', people(skeleton=5))
    assert 'keypoints of a category must be a list' in refuses('pose', people(keypoints='abcde'))
    folder = people()
    content = json.loads((folder / 'points.json').read_text())
    first, second = content['annotations'][0], dict(id=2, name='other', keypoints=list('abcde'))
    first['category_id'], content['categories'] = 2, [*content['categories'], second]
    (folder / 'points.json').write_text(json.dumps(content))
    assert 'points.json: keypoints differ between categories' in refuses('pose', folder)
    first['keypoints'] = 5
    (folder / 'points.json').write_text(json.dumps(content | dict(annotations=[first])))
    assert f'annotation {first["id"]}: keypoints must be' in refuses('pose', folder)
    folder = people()
    content = json.loads((folder / 'points.json').read_text())
    for item in content['annotations']:
        del item['keypoints']
    (folder / 'points.json').write_text(json.dumps(content))
    assert 'has no keypoints, which pose takes' in refuses('pose', folder)


def test_yolo(tmp_path, write):
    folder = tmp_path / 'hands'
    for i in range(3):
        make_image(folder / 'images' / f'{i}.png', 100, 50)
        (folder / 'labels').mkdir(exist_ok=True)
        label = '0 0.5 0.5 0.4 0.4 0.4 0.4 2 0.6 0.4 1 0 0 0\n'
        (folder / 'labels' / f'{i}.txt').write_text(label)
    content = dict(train='images', val='images', names=['hand'], kpt_shape=[3, 3])
    (folder / 'data.yaml').write_text(yaml.safe_dump(content | dict(flip_idx=[1, 0, 2])))
    config, _ = write('pose', folder)
    assert metainfo(config)['flip_indices'] == [1, 0, 2]
    found = json.loads((config.with_suffix('') / 'val.json').read_text())['annotations'][0]
    assert found['keypoints'] == [40, 20, 2, 60, 20, 1, 0, 0, 0]
    assert found['num_keypoints'] == 2
    assert found['bbox'] == [30, 15, 40, 20]
    # Twice as wide as high
    assert load_config(config).codec.heatmap_size == (64, 48)


SMALL = ('model.head.deconv_out_channels=[16,16,16]',)


@pytest.mark.slow
def test_trains(people, write, trains):
    trains(write('pose', people())[0], *SMALL)


@pytest.mark.slow
def test_trains_a_network_of_timm(people, write, trains):
    config, _ = write('pose', people(), backbone='timm:resnet10t')
    assert load_config(config).model.head.in_channels == 512
    trains(config, *SMALL)
