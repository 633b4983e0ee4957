"""Own data in the format of Pascal VOC."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from own_images import SMALL_HEADS, make_image

from scopevit.engine.config import load_config

OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>
<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


@pytest.fixture
def write_voc(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes three images of 100x50 with the same objects."""

    def run(objects: str, file: str = '{}.png') -> Path:
        for i in range(3):
            make_image(tmp_path / 'voc' / 'JPEGImages' / f'{i}.png', 100, 50)
            path = tmp_path / 'voc' / 'Annotations' / f'{i}.xml'
            path.parent.mkdir(exist_ok=True)
            name = file.format(i)
            path.write_text(f'<annotation><filename>{name}</filename>{objects}</annotation>')
        return tmp_path / 'voc'

    return run


def test_boxes(write_voc, write):
    objects = OBJECT.format('tree', 0, 10, 5, 40, 25) + OBJECT.format('bush', 1, 50, 5, 60, 10)
    folder = write_voc(objects)
    (folder / 'ImageSets' / 'Main').mkdir(parents=True)
    for name, stems in (('train', '0\n2\n'), ('val', '1\n'), ('tree_train', '0 1\n')):
        (folder / 'ImageSets' / 'Main' / f'{name}.txt').write_text(stems)
    config, said = write('detection', folder)
    assert 'Pascal VOC; 2 classes, 2 images to train on, 1 to validate on' in said
    content = json.loads((config.with_suffix('') / 'val.json').read_text())
    assert content['images'][0]['file_name'] == 'JPEGImages/1.png'
    assert [(a['category_id'], a['bbox'], a['iscrowd']) for a in content['annotations']] == [
        (2, [10, 5, 30, 20], 0), (1, [50, 5, 10, 5], 1),
    ]  # fmt: skip
    assert load_config(config).classes == ('bush', 'tree')


def test_renamed_images(write_voc, write):
    config, _ = write('detection', write_voc(OBJECT.format('tree', 0, 10, 5, 40, 25), 'old{}.tif'))
    assert load_config(config).classes == ('tree',)


def test_other_xml_files_are_told(write_voc, write):
    folder = write_voc(OBJECT.format('tree', 0, 10, 5, 40, 25))
    (folder / 'Annotations' / '2.xml').write_text('<image><object/></image>')
    _, said = write('detection', folder)
    assert '1 XML files without <annotation> are left out' in said


def test_bad_annotations(write_voc, refuses):
    folder = write_voc(OBJECT.format('tree', 0, 10, 5, 'x', 25))
    assert 'tree has no bndbox of xmin, ymin, xmax, ymax' in refuses('detection', folder)
    folder = write_voc(OBJECT.format('tree', 0, 'nan', 5, 20, 25))
    assert 'tree: bndbox must be 4 numbers' in refuses('detection', folder)
    (folder / 'Annotations' / '0.xml').write_text('<annotation>')
    assert 'cannot read' in refuses('detection', folder)


@pytest.mark.slow
def test_trains(write_voc, write, trains):
    config, _ = write('detection', write_voc(OBJECT.format('tree', 0, 10, 5, 40, 25)))
    trains(config, *SMALL_HEADS)
