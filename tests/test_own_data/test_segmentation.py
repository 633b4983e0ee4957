"""Own data of segmentation: label maps, and masks that are drawn as such."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_images import make_image
from PIL import Image
from tasks import DEMO, copy_coco

from scopevit.engine.config import load_config

SMALL = ('model.neck.out_channels=16', 'model.decode_head.in_channels=[16,16,16,16]',
         'model.decode_head.channels=16')  # fmt: skip


@pytest.fixture
def write_maps(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes four images of 40x30 with maps of some labels in quarters."""

    def run(*labels: int, image: str = 'images/{}.jpg', map_: str = 'masks/{}.png') -> Path:
        folder = tmp_path / 'maps'
        drawn = np.repeat(np.array(labels, np.uint8), 30 * 40 // len(labels)).reshape(30, 40)
        for i in range(4):
            make_image(folder / image.format(i), 40, 30)
            target = folder / map_.format(i)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn).save(target)
        return folder

    return run


def first_map(config: Path) -> np.ndarray:
    """Returns the label map that the config's first training sample has."""
    import mmseg.datasets  # noqa: F401
    from mmengine.registry import DATASETS

    cfg = load_config(config)
    cfg.train_dataloader.dataset.pipeline = cfg.train_pipeline[:2]
    with DATASETS.switch_scope_and_registry('mmseg') as registry:
        return registry.build(cfg.train_dataloader.dataset)[0]['gt_seg_map']


def test_maps_stay_where_they_are(write_maps, write):
    folder = write_maps(0, 1, 2, 255)
    (folder / 'classes.txt').write_text('floor\nwall\ndoor\nroof\n')
    config, said = write('segmentation', folder)
    assert 'label maps; 4 classes, 3 images to train on, 1 to validate on' in said
    assert sorted(p.name for p in (config.parent / 'own').iterdir()) == ['train.txt', 'val.txt']
    cfg = load_config(config)
    assert cfg.classes == ('floor', 'wall', 'door', 'roof')
    assert cfg.model.decode_head.num_classes == 4
    # 30 pixels, enlarged twice
    assert cfg.train_pipeline[3].crop_size == (64, 64)
    assert np.unique(first_map(config)).tolist() == [0, 1, 2, 255]


@pytest.mark.slow
def test_black_and_white(write_maps, write):
    config, said = write('segmentation', write_maps(0, 255))
    assert 'white is written as label 1' in said
    assert load_config(config).classes == ('background', 'foreground')
    assert np.bincount(first_map(config).ravel()).tolist() == [600, 600]


@pytest.mark.slow
def test_maps_in_folders_of_splits(write_maps, write):
    write_maps(0, 1, image='val/images/{}.jpg', map_='val/masks/{}_mask.png')
    folder = write_maps(0, 1, image='train/images/{}.png', map_='train/masks/{}_mask.png')
    config, said = write('segmentation', folder)
    assert '2 classes, 4 images to train on, 4 to validate on' in said
    assert (config.parent / 'own' / 'train.txt').read_text() == ''.join(
        f'train/images/{i}.png\n' for i in range(4)
    )
    assert np.bincount(first_map(config).ravel()).tolist() == [600, 600]


def test_masks_of_coco_are_drawn(tmp_path, write):
    square = dict(category_id=5, segmentation=[[2, 3, 12, 3, 12, 13, 2, 13]], iscrowd=0)
    small = dict(category_id=9, segmentation=[[4, 5, 6, 5, 6, 7, 4, 7]], iscrowd=0)
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=40, height=30) for i in (1, 2, 3)],
        annotations=[
            dict(o, id=2 * i + j, image_id=i)
            for i in (1, 2, 3)
            for j, o in enumerate((small, square))
        ],
        categories=[dict(id=5, name='leaf'), dict(id=9, name='spot')],
    )
    for i in (1, 2, 3):
        make_image(tmp_path / 'leaves' / f'{i}.jpg', 40, 30)
    (tmp_path / 'leaves' / 'x.json').write_text(json.dumps(content))
    config, _ = write('segmentation', tmp_path / 'leaves')
    labels = first_map(config)
    assert load_config(config).classes == ('background', 'leaf', 'spot')
    # 10x10 pixels of the leaf, 2x2 of the spot upon it
    assert np.bincount(labels.ravel()).tolist() == [1100, 96, 4]
    assert labels[5, 4] == 2


def test_bad_maps(write_maps, refuses, tmp_path):
    folder = write_maps(0, 1, 2)
    (folder / 'classes.txt').write_text('floor\nwall\n')
    line = refuses('segmentation', folder)
    assert f'label 2 in {folder}/masks/0.png, but there are 2 classes' in line
    (folder / 'classes.txt').write_text('floor\nwall\nwall\n')
    assert 'classes.txt: two classes have one name' in refuses('segmentation', folder)
    (folder / 'classes.txt').write_bytes(b'\xff\xfe\xff')
    assert 'classes.txt as text' in refuses('segmentation', folder)
    (folder / 'classes.txt').unlink()
    make_image(folder / 'masks' / '0.png', 40, 30)
    assert '0.png has 3 channels; a label map' in refuses('segmentation', folder)
    Image.fromarray(np.zeros((40, 30), np.uint8)).save(folder / 'masks' / '0.png')
    assert '0.png has 30x40 pixels, its image 40x30' in refuses('segmentation', folder)
    (folder / 'images' / '0.jpg').unlink()
    assert '0.png has no image of its name (1 such maps)' in refuses('segmentation', folder)


def test_one_label_alone(write_maps, refuses):
    assert 'all labels are 255; segmentation takes two classes' in refuses(
        'segmentation', write_maps(255)
    )


@pytest.mark.slow
def test_trains(write_maps, write, trains):
    config, _ = write('segmentation', write_maps(0, 1, 2, 255))
    trains(config, *SMALL)


@pytest.mark.slow
def test_trains_on_nuclei_with_a_network_of_timm(tmp_path, write, trains):
    copy_coco(
        DEMO / 'nuclei' / 'annotations' / 'instances_train.json',
        DEMO / 'nuclei' / 'images' / 'train',
        4,
        tmp_path / 'data' / 'x.json',
    )
    config, _ = write('segmentation', tmp_path / 'data', backbone='timm:resnet10t')
    assert load_config(config).model.neck.in_channels == [64, 128, 256, 512]
    trains(config, *SMALL)
