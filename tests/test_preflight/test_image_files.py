"""Image files, label maps and lists of labels against each other."""

import shutil
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from checked_sets import (
    HEIGHT,
    SETS,
    WIDTH,
    classification_set,
    detection_set,
    loaders,
    noise,
    segmentation_set,
)
from PIL import Image
from tasks import DEMO

from scopevit.own_data.files import ORIENTATION
from scopevit.preflight.files import Opened, open_files, open_image
from scopevit.preflight.label_maps import check_reduced, meaning
from scopevit.preflight.samples import Part


def shape(found) -> tuple:
    return found.level, found.what, found.where, found.count


def save_turned(path: Path, width: int, height: int, orientation: int) -> None:
    """Writes a JPEG that EXIF says to turn."""
    image = Image.fromarray(noise(99, width, height))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(path, 'JPEG', exif=exif)


@pytest.mark.parametrize('name', SETS)
@pytest.mark.parametrize('quick', [True, False])
def test_nothing_is_found_in_clean_data(name, quick, tmp_path):
    assert SETS[name](tmp_path).findings(quick) == []


# Opening


def test_opening(tmp_path):
    whole, cut, text = (tmp_path / name for name in ('whole.jpg', 'cut.jpg', 'text.png'))
    cv2.imwrite(str(whole), noise(1))
    cut.write_bytes(whole.read_bytes()[:-300])
    assert cv2.imread(str(cut)) is not None  # OpenCV hides it
    text.write_text('no image')
    opened = open_files(map(str, [whole, cut, text, tmp_path / 'none.png', whole]))
    assert [image.problem for image in opened.values()] == [
        '', 'truncated', 'unreadable', 'missing',
    ]  # fmt: skip
    assert opened[str(whole)].size == (WIDTH, HEIGHT)
    # The same pixels in another format and with other metadata are the same image.
    pixels = Image.open(whole)
    pixels.save(tmp_path / 'a.png')
    pixels.save(tmp_path / 'b.bmp')
    digests = {open_image(str(tmp_path / name)).digest for name in ('a.png', 'b.bmp')}
    assert digests == {opened[str(whole)].digest}


@pytest.mark.parametrize('mode', ['L', 'P', 'CMYK', 'I;16', '1', 'RGBA'])
def test_all_kinds_of_images_open(mode, tmp_path):
    path = str(tmp_path / ('a.tif' if mode == 'CMYK' else 'a.png'))
    image = Image.new(mode, (5, 4))
    image.save(path)
    opened = open_image(path)
    assert (opened.problem, opened.size) == ('', (5, 4))


def test_truncated_png_and_empty_file(tmp_path):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), noise(1))
    path.write_bytes(path.read_bytes()[:4000])
    assert open_image(str(path)).problem == 'truncated'
    path.write_bytes(b'')
    assert open_image(str(path)).problem == 'unreadable'


def test_image_that_would_fill_the_memory(tmp_path, monkeypatch):
    checked = detection_set(tmp_path)
    cv2.imwrite(str(checked.image('train', 1)), noise(5, 640, 480))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10_000)  # an error from twice as many on
    found = checked.only(quick=False)
    assert shape(found) == ('error', 'images too large', 'train', 1)
    assert found.text.startswith(f'{checked.image("train", 1)} is too large to be opened: ')


def test_format_that_opencv_does_not_read(tmp_path):
    path = tmp_path / 'a.png'
    Image.new('RGB', (8, 8)).save(path, 'ICO')
    opened = open_image(str(path))
    assert opened.problem == 'unreadable' and 'OpenCV does not decode' in opened.said


# Images against annotations


@pytest.mark.parametrize('name', SETS)
def test_missing_image(name, tmp_path):
    checked = SETS[name](tmp_path)
    if name == 'segmentation':  # its images are what is there, so a list is needed
        checked.cfg['val_dataloader']['dataset']['ann_file'] = 'val.txt'
        (tmp_path / 'val.txt').write_text('val0\nval1\nval2\n')
    checked.image('val', 1).unlink()
    found = checked.only(quick=True)
    assert shape(found) == ('error', 'missing images', 'val', 1)
    assert found.text == f'{checked.image("val", 1)} is not there (val_dataloader.dataset)'
    assert checked.only(quick=False) == found


def test_damaged_images(tmp_path):
    checked = detection_set(tmp_path)
    first, second = (checked.image('train', i) for i in (0, 1))
    first.write_bytes(first.read_bytes()[:4000])
    second.write_text('no image')
    assert checked.findings(quick=True) == []
    truncated, unreadable = sorted(checked.findings(quick=False), key=lambda f: f.what)
    assert shape(truncated) == ('error', 'truncated images', 'train', 1)
    assert truncated.text.startswith(f'{first} is damaged: ')
    assert shape(unreadable) == ('error', 'unreadable images', 'train', 1)
    assert unreadable.text.startswith(f'{second} cannot be read: ')


def test_size_that_differs_from_annotated(tmp_path):
    checked = detection_set(tmp_path)
    cv2.imwrite(str(checked.image('val', 2)), noise(5, 60, 50))
    found = checked.only(quick=False)
    assert shape(found) == ('error', 'size differs from annotated', 'val', 1)
    assert f'{checked.image("val", 2)} has 60x50 pixels, but ' in found.text
    assert found.text.endswith('val.json says 64x48')


@pytest.mark.parametrize(
    ('width', 'height', 'flag', 'found'),
    [
        # Stored 48x64, turned to 64x48 when it is loaded, and annotated so.
        (48, 64, 'color', ('note', 'turned by EXIF', 'train', 1)),
        # Stored and annotated 64x48, but turned to 48x64.
        (64, 48, 'color', ('error', 'annotated against EXIF', 'train', 1)),
        (64, 48, 'unchanged', ('note', 'turned by EXIF', 'train', 1)),
        (48, 64, 'unchanged', ('error', 'annotated against EXIF', 'train', 1)),
    ],
)
def test_orientation(width, height, flag, found, tmp_path):
    checked = detection_set(tmp_path)
    path = checked.image('train', 0)
    save_turned(path, width, height, 6)
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED if flag == 'unchanged' else 1)
    loaded = (width, height) if flag == 'unchanged' else (height, width)
    assert pixels.shape[1::-1] == loaded  # as OpenCV has it, so mmcv
    load = dict(type='LoadImageFromFile', color_type=flag)
    checked.cfg['train_dataloader']['dataset']['pipeline'] = [load]
    assert shape(checked.only(quick=False)) == found


def test_images_that_nobody_names(tmp_path):
    checked = detection_set(tmp_path)
    for name in ('more.png', 'other.jpg', 'notes.txt'):
        cv2.imwrite(str(tmp_path / 'train' / 'x.png'), noise(50 + len(name)))
        (tmp_path / 'train' / 'x.png').rename(tmp_path / 'train' / name)
    found = checked.only(quick=False)
    assert shape(found) == ('note', 'images nobody names', 'train', 2)
    assert str(tmp_path / 'train' / 'more.png') in found.text


def test_same_image_in_train_and_val(tmp_path):
    checked = classification_set(tmp_path)
    pixels = cv2.imread(str(checked.image('train', 2)))
    cv2.imwrite(str(tmp_path / 'val' / 'copy.bmp'), pixels)
    (tmp_path / 'val.txt').write_text('val0.png 0\nval1.png 1\ncopy.bmp 2\n')
    checked.image('val', 2).unlink()
    found = checked.only(quick=False)
    assert shape(found) == ('warning', 'images of train again', 'train, val', 1)
    names = f'{checked.image("train", 2)} (train) and {tmp_path / "val" / "copy.bmp"} (val)'
    assert found.text == f'{names} are the same image'


def test_copies_in_train(tmp_path):
    checked = classification_set(tmp_path)
    shutil.copy(checked.image('train', 0), checked.image('train', 1))
    assert shape(checked.only(quick=False)) == ('note', 'copies in train', 'train', 1)


def test_val_set_that_is_the_training_set(tmp_path):
    checked = classification_set(tmp_path)
    train = checked.cfg['train_dataloader']['dataset']
    checked.cfg['val_dataloader']['dataset'] = dict(train)
    for quick in (True, False):
        assert shape(checked.only(quick)) == ('warning', 'split is train itself', 'val', 3)


def test_sizes_of_images(tmp_path):
    checked = classification_set(tmp_path)
    cv2.imwrite(str(checked.image('train', 0)), noise(1, 30, 40))
    cv2.imwrite(str(checked.image('train', 1)), noise(2, 500, 60))
    found = {f.what: f for f in checked.findings(quick=False)}
    # 40 and 500 are the shortest and the longest of the long sides.
    assert shape(found['small images']) == ('note', 'small images', 'train', 1)
    assert '30x40' in found['sizes differ'].text and '500x60' in found['sizes differ'].text


# Label maps


def test_reduce_zero_label_that_takes_a_class_away(tmp_path):
    checked = segmentation_set(tmp_path)
    for split in ('train', 'val'):
        checked.cfg[f'{split}_dataloader']['dataset']['reduce_zero_label'] = True
    for quick in (True, False):
        found = checked.findings(quick)
        errors = [f for f in found if f.level == 'error']
        assert [shape(f) for f in errors] == [
            ('error', 'reduce_zero_label', 'train', 3),
            ('error', 'reduce_zero_label', 'val', 3),
        ]
        assert 'reduce_zero_label=True takes label 0, ground, away' in errors[0].text
        assert 'labels on the maps are 0 to 2, as many as classes' in errors[0].text


def test_reduce_zero_label_where_it_is_meant(tmp_path):
    checked = segmentation_set(tmp_path, (0, 1, 2, 3))
    for split in ('train', 'val'):
        checked.cfg[f'{split}_dataloader']['dataset']['reduce_zero_label'] = True
    assert checked.findings(quick=True) == checked.findings(quick=False) == []


def test_quick_check_makes_sure_of_the_last_class(tmp_path, monkeypatch):
    monkeypatch.setattr('scopevit.preflight.label_maps.FEW_MAPS', 2)
    checked = segmentation_set(tmp_path)
    for split in ('train', 'val'):
        checked.cfg[f'{split}_dataloader']['dataset']['reduce_zero_label'] = True
        # The second of three maps, not among the two that are looked at, has the last class.
        path = tmp_path / f'{split}_maps' / f'{split}1.png'
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH), 3, np.uint8))
    assert checked.findings(quick=True) == []


def test_labels_out_of_range(tmp_path):
    checked = segmentation_set(tmp_path)
    path = tmp_path / 'train_maps' / 'train1.png'
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    labels[0, 0], labels[1, 1] = 7, 255
    cv2.imwrite(str(path), labels)
    found = checked.only(quick=False)
    assert shape(found) == ('error', 'labels out of range', 'train', 1)
    assert found.text.startswith(f'label 7 in {path}: the data set has 3 classes, labels 0 to 2')
    assert found.files == (str(checked.image('train', 1)),)


def test_label_maps_of_another_size_and_kind(tmp_path):
    checked = segmentation_set(tmp_path)
    cv2.imwrite(str(tmp_path / 'val_maps' / 'val0.png'), np.zeros((20, 30), np.uint8))
    cv2.imwrite(str(tmp_path / 'val_maps' / 'val1.png'), noise(1))
    (tmp_path / 'val_maps' / 'val2.png').write_text('no map')
    found = checked.findings(quick=False)
    by_name = {f.what: f for f in found if f.level == 'error'}
    assert '20x30 pixels (height x width), its image 48x64' in (
        by_name['label maps of another size'].text
    )
    assert by_name['unreadable label maps'].count == 2
    assert by_name['unreadable label maps'].text.endswith('3 channels instead of one')
    # The one map that is left has label 0 alone.
    never = next(f for f in found if f.what == 'classes that never occur')
    assert shape(never)[2:] == ('val', 2) and 'cat, dog never occur' in never.text
    (tmp_path / 'val_maps' / 'val2.png').unlink()
    missing = next(f for f in checked.findings(quick=True) if f.what == 'missing label maps')
    assert missing.count == 1


# Lists and folders of classes


def test_labels_that_count_from_1(tmp_path):
    checked = classification_set(tmp_path)
    (tmp_path / 'train.txt').write_text('train0.png 1\ntrain1.png 2\ntrain2.png 3\n')
    found = {f.what: f for f in checked.findings()}
    assert shape(found['labels out of range']) == ('error', 'labels out of range', 'train', 1)
    assert 'label [3] of' in found['labels out of range'].text
    assert 'labels count from 1 on, where they must from 0' in found['labels out of range'].text
    assert found['classes that never occur'].text.startswith('train_dataloader.dataset: cat never')


def test_labels_without_names(tmp_path):
    checked = classification_set(tmp_path)
    for split in ('train', 'val'):
        del checked.cfg[f'{split}_dataloader']['dataset']['metainfo']
    assert checked.findings() == []
    (tmp_path / 'train.txt').write_text('train0.png 0\ntrain1.png 2\ntrain2.png 2\n')
    found = checked.only()
    assert shape(found) == ('warning', 'classes that never occur', 'train', 1)
    assert 'label 1 never occurs' in found.text


def test_images_without_labels(tmp_path):
    checked = classification_set(tmp_path)
    for split in ('train', 'val'):
        dataset = checked.cfg[f'{split}_dataloader']['dataset']
        del dataset['ann_file']
        dataset['with_label'] = False
    assert shape(checked.only()) == ('error', 'no annotations', 'val', 3)


def test_images_in_memory(tmp_path):
    """Those of Fashion-MNIST are in no files of their own."""
    checked = classification_set(tmp_path)
    dataset = dict(type='FashionMNIST', data_root=str(DEMO / 'fashion_mnist'), download=False)
    val = dict(dataset, split='test', test_mode=True)
    checked.cfg = dict(default_scope='mmpretrain', model={}, **loaders(train=dataset, val=val))
    assert checked.findings(quick=False) == []
    checked.cfg |= loaders(val=dataset)
    assert shape(checked.only(quick=False)) == (
        'warning',
        'images of train again',
        'train, val',
        6000,
    )


def folders(folder: Path, train: tuple[str, ...], val: tuple[str, ...]) -> None:
    for k, (split, names) in enumerate((('train', train), ('val', val))):
        for i, name in enumerate(names):
            (folder / split / name).mkdir(parents=True)
            cv2.imwrite(str(folder / split / name / '0.png'), noise(10 * k + i))


def test_folders_of_classes_that_differ(tmp_path):
    checked = classification_set(tmp_path)
    shutil.rmtree(tmp_path / 'train')
    shutil.rmtree(tmp_path / 'val')
    folders(tmp_path, ('cat', 'cow', 'dog'), ('cat', 'dog', 'emu'))
    datasets = {
        split: dict(type='CustomDataset', data_root=str(tmp_path), data_prefix=split)
        for split in ('train', 'val')
    }
    checked.cfg |= loaders(**datasets)
    found = checked.findings()
    assert [shape(f) for f in found] == [('error', 'classes differ', 'train, val', 1)]
    assert 'label 1 is cow in train_dataloader.dataset and dog in val' in found[0].text
    for dataset in datasets.values():
        dataset['metainfo'] = dict(classes=('dog', 'cow', 'cat'))
    found = checked.findings()
    assert ('error', 'names in another order', 'train', 3) in map(shape, found)


# Pascal VOC


def test_boxes_of_voc(tmp_path):
    (tmp_path / 'JPEGImages').mkdir()
    (tmp_path / 'Annotations').mkdir()
    for i in range(2):
        cv2.imwrite(str(tmp_path / 'JPEGImages' / f'{i}.jpg'), noise(i))
        root = ElementTree.Element('annotation')
        size = ElementTree.SubElement(root, 'size')
        for name, value in (('width', WIDTH), ('height', HEIGHT)):
            ElementTree.SubElement(size, name).text = str(value)
        found = ElementTree.SubElement(root, 'object')
        ElementTree.SubElement(found, 'name').text = 'cat'
        box = ElementTree.SubElement(found, 'bndbox')
        for name, value in (('xmin', 21), ('ymin', 11), ('xmax', 39 + 1000 * i), ('ymax', 27)):
            ElementTree.SubElement(box, name).text = str(value)
        ElementTree.ElementTree(root).write(tmp_path / 'Annotations' / f'{i}.xml')
    (tmp_path / 'train.txt').write_text('0\n1\n')
    dataset = dict(
        type='XMLDataset',
        data_root=str(tmp_path),
        ann_file='train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=('cat',)),
    )
    checked = detection_set(tmp_path)
    checked.coco.clear()
    checked.cfg = dict(default_scope='mmdet', model={}, **loaders(train=dataset))
    found = checked.only(quick=False)
    # xmax 1039 of an image of 64 pixels: 1018 wide from 20 on, as mmdet counts from 0.
    assert shape(found) == ('warning', 'boxes across the border', 'train', 1)
    assert 'box [20.0, 10.0, 1018.0, 16.0]' in found.text


def test_reduced_labels_of_as_many_classes_as_numbers():
    part = Part('train', 'mmseg', {}, 'train_dataloader.dataset', maps=['a.png'], reduces=True)
    part.classes = tuple(map(str, range(256)))
    opened = {'a.png': Opened(labels=np.ones(256, int))}
    assert list(check_reduced(part, meaning(part), opened)) == []
