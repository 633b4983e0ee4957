"""Own data of detection: COCO."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from own_images import SMALL_HEADS, make_image
from PIL import Image
from tasks import copy_coco

from scopevit.engine.config import load_config
from scopevit.own_data.detection import median_seen
from scopevit.own_data.samples import OwnData, OwnImage

DEMO = Path(__file__).parents[2] / 'data' / 'demo' / 'nuclei'


def coco(**changes: list) -> dict:
    """Two classes, three images of 64x48, a box on each."""
    content = dict(
        images=[dict(id=i, file_name=f'{i}.png', width=64, height=48) for i in range(3)],
        annotations=[
            dict(id=i, image_id=i, category_id=7 + i % 2, bbox=[10, 12, 20, 16]) for i in range(3)
        ],
        categories=[dict(id=8, name='dog'), dict(id=7, name='cat')],
    )
    return content | changes


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a folder with images and a COCO file."""

    def run(content: dict, name: str = 'boxes.json') -> Path:
        folder = tmp_path / 'data'
        for i in range(3):
            make_image(folder / 'images' / f'{i}.png', 64, 48)
        (folder / name).write_text(json.dumps(content))
        return folder

    return run


def read(path: str | Path) -> dict:
    return json.loads(Path(path).read_text())


def categories(path: str | Path) -> list[int]:
    return [a['category_id'] for a in read(path)['annotations']]


def test_boxes(write_coco, write):
    config, said = write('detection', write_coco(coco()))
    cfg = load_config(config)
    assert cfg.model.type == 'RetinaNet'
    assert cfg.classes == ('cat', 'dog')  # in the order of their ids
    assert cfg.model.bbox_head.num_classes == 2
    train, val = read(cfg.train_dataloader.dataset.ann_file), read(cfg.val_evaluator.ann_file)
    assert (len(train['images']), len(val['images'])) == (2, 1)
    assert {a['category_id'] for a in train['annotations'] + val['annotations']} == {1, 2}
    assert train['annotations'][0]['bbox'] == [10, 12, 20, 16]
    assert train['annotations'][0]['area'] == 320
    assert '1 of 3 images drawn for validation (seed 0)' in said
    # Objects are 18 wide, so the images are enlarged by 1.8: 114 x 86 pixels, in steps of 32.
    assert cfg.test_pipeline[1].scale == (128, 96)


@pytest.mark.slow
def test_trains(write_coco, write, trains):
    config, _ = write('detection', write_coco(coco()))
    trains(config, *SMALL_HEADS)


@pytest.mark.slow
def test_masks(tmp_path, write):
    copy_coco(
        DEMO / 'annotations' / 'instances_train.json',
        DEMO / 'images' / 'train',
        6,
        tmp_path / 'data' / 'boxes.json',
    )
    config, _ = write('detection', tmp_path / 'data' / 'boxes.json')
    cfg = load_config(config)
    assert cfg.model.type == 'MaskRCNN'
    assert cfg.model.roi_head.mask_head.num_classes == 3
    content = read(cfg.train_dataloader.dataset.ann_file)
    assert all(a['segmentation']['counts'] for a in content['annotations'])


def test_two_files_that_number_classes_differently(write_coco, write):
    first, second = coco(), coco(categories=[dict(id=7, name='dog'), dict(id=8, name='cat')])
    first['images'], second['images'] = first['images'][:2], second['images'][2:]
    first['annotations'], second['annotations'] = (
        first['annotations'][:2],
        second['annotations'][2:],
    )
    folder = write_coco(first, 'train.json')
    write_coco(second, 'val.json')
    config, said = write('detection', folder)
    assert 'number the classes differently; they are matched by name' in said
    cfg = load_config(config)
    assert categories(cfg.train_dataloader.dataset.ann_file) == [1, 2]
    # Image 2 is of id 7, 'dog' in that file.
    assert categories(cfg.val_evaluator.ann_file) == [2]


def spoil(**changes: object) -> dict:
    """COCO with other values in its second annotation."""
    content = coco()
    content['annotations'][1].update(changes)
    return content


@pytest.mark.parametrize(
    ('content', 'line'),
    [
        (spoil(id=0), 'id 0 is there twice among annotations'),
        (coco(images=2 * coco()['images']), 'id 0 is there twice among images'),
        (coco(categories=[dict(id=7, name='a'), dict(id=8, name='a')]), 'categories are called a'),
        (spoil(image_id=9), 'annotation 1: image_id 9 is none of the images'),
        (spoil(category_id=1), 'annotation 1: category_id 1 is no category'),
        (spoil(bbox=[1, 2, 3]), 'annotation 1: bbox must be 4 numbers, not [1, 2, 3]'),
        (spoil(bbox=[1, 2, 'x', 3]), 'bbox must be 4 numbers'),
        (spoil(bbox=[1000, 12, 20, 20]), 'lies outside the image of 64x48 pixels'),
        (spoil(segmentation=[[1, 2, 3, 4]]), 'a polygon takes x, y of three points or more'),
        (
            spoil(segmentation=dict(counts=[9], size=[64, 48])),
            'size of the RLE is [64, 48], that of the image (48, 64)',
        ),
        (spoil(segmentation=dict(counts=[9], size=[48, 64])), 'counts of the RLE fill 9 pixels'),
        (
            spoil(segmentation=dict(counts='@@', size=[48, 64])),
            'counts of the RLE are not',
        ),
        (
            spoil(segmentation=dict(counts=[-9, 3081], size=[48, 64])),
            'counts of the RLE are not',
        ),
        (spoil(segmentation=[[1e9, 1, 2, 2e9, 3, 4]]), 'a point at 1e+09, its image has 64x48'),
        (spoil(segmentation='1,2,3'), 'must be polygons or a run-length code'),
        (spoil(bbox=[10**400, 1, 2, 3]), 'bbox must be 4 numbers'),
        (spoil(id=[1]), 'id of one of annotations must be a number, not [1]'),
        (spoil(image_id={}), 'image_id of one of annotations must be a number'),
        (coco(annotations=[None]), 'one of annotations has no id: None'),
        (coco(annotations=coco()['annotations'][:1]), 'no image to train on has an annotated'),
        (coco(annotations=[]), 'no image has an annotated object'),
        (coco(images=[]), 'image_id 0 is none of the images'),
    ],
)
def test_bad_coco(content, line, write_coco, refuses):
    assert line in refuses('detection', write_coco(content))


@pytest.mark.parametrize('area', [10**400, float('nan'), '9'])
def test_an_area_that_is_no_number_is_that_of_the_box(area, write_coco, write):
    config, _ = write('detection', write_coco(spoil(area=area)))
    written = json.loads(Path(load_config(config).train_dataloader.dataset.ann_file).read_text())
    assert all(item['area'] == item['bbox'][2] * item['bbox'][3] for item in written['annotations'])


def test_corners_for_width_and_height(write_coco, refuses):
    corners = [dict(a, bbox=[10, 12, 60, 44]) for a in coco()['annotations']]
    line = refuses('detection', write_coco(coco(annotations=corners)))
    assert 'it looks like x1, y1, x2, y2' in line
    assert '(3 such boxes)' in line


def test_boxes_over_the_border_are_cut(write_coco, write):
    config, said = write('detection', write_coco(spoil(bbox=[50, 2, 20, 10])))
    assert '1 boxes reach out of their images and are cut' in said
    found = [read(config.with_suffix('') / f'{n}.json')['annotations'] for n in ('train', 'val')]
    assert [50, 2, 14, 10] in [a['bbox'] for a in sum(found, [])]


def test_images_that_differ(write_coco, refuses):
    folder = write_coco(coco())
    make_image(folder / 'images' / '1.png', 48, 64)
    line = refuses('detection', folder)
    assert '1.png has 48x64 pixels, but boxes.json says 64x48' in line
    assert 'EXIF' not in line
    with Image.open(folder / 'images' / '2.png') as image:
        exif = image.getexif()
        exif[0x0112] = 6  # orientation: to be turned by 90 degrees
        image.save(folder / 'images' / '1.png', exif=exif)
    line = refuses('detection', folder)
    assert '1.png has 48x64 pixels, but boxes.json says 64x48: its EXIF turns it' in line
    shutil.move(folder / 'images' / '1.png', folder.parent)
    assert 'image 1.png is not in' in refuses('detection', folder)
    (folder / 'boxes.json').write_text('{')
    assert 'cannot read' in refuses('detection', folder)
    (folder / 'boxes.json').unlink()
    assert 'has no annotations that detection takes' in refuses('detection', folder)


@pytest.mark.slow
def test_in_the_folder_of_the_data(write_coco, write, monkeypatch):
    folder = write_coco(coco())
    monkeypatch.chdir(folder)
    for force in (False, True):  # what was written the first time is no data the second
        config, said = write('detection', Path('.'), out=None, force=force)
        assert config == folder / 'detection_data.py'
        assert 'COCO (boxes.json); 2 classes, 2 images' in said
    assert not list(folder.glob('.*'))


def test_many_classes_have_a_file_of_their_own(write_coco, write):
    names = [dict(id=i, name=f"class '{i}'") for i in range(30)]
    config, _ = write('detection', write_coco(coco(categories=names)))
    assert len(config.read_text().splitlines()) < 65
    cfg = load_config(config)
    assert cfg.train_dataloader.dataset.metainfo.classes[29] == "class '29'"
    assert len(cfg.palette) == cfg.model.bbox_head.num_classes == 30


def test_writing_fails(write_coco, refuses, monkeypatch):
    folder = write_coco(coco())

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'rename', fail)
    assert 'cannot write' in refuses('detection', folder)


def test_objects_as_the_network_sees_them():
    images = [
        OwnImage('a.png', (100, 50), 'train', objects=[dict(category=0, bbox=[0, 0, 10, 40])]),
        OwnImage(
            'b.png',
            (400, 1000),
            'train',
            objects=[
                dict(category=0, bbox=[0, 0, 100, 100]),
                dict(category=0, bbox=[0, 0, 150, 150]),
            ],
        ),
    ]
    data = OwnData(Path(), '', ['a'], images)
    # a is doubled, and its object 2 * 20 wide; b becomes 80 x 200, its objects 20 and 30 wide.
    assert median_seen(data, (200, 160)) == 30
