"""Own data of classification: folders of images."""

import shutil
from pathlib import Path

import pytest
from own_images import make_image

from scopevit.engine.config import load_config


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_splits_by_class_and_trains(clothes, write, trains):
    config, said = write('classification', clothes)
    train, val = (lines(config.parent / 'own' / f'{name}.txt') for name in ('train', 'val'))
    # Classes in the order of their names; a fifth of each is for validation.
    assert sorted(line.rsplit(' ', 1)[1] for line in train) == ['0'] * 8 + ['1'] * 8 + ['2'] * 8
    assert sorted(line.rsplit(' ', 1)[1] for line in val) == ['0'] * 2 + ['1'] * 2 + ['2'] * 2
    assert not set(train) & set(val)
    names = {line.rsplit(' ', 1)[1]: line.split('/')[0] for line in train}
    assert names == {'0': 'pull over', '1': 't-shirt', '2': 'trouser'}
    assert 'pull over 8 + 2' in said
    assert f'scopevit train {config}' in said
    cfg = load_config(config)
    assert cfg.model.head.num_classes == 3
    assert cfg.train_dataloader.dataset.data_root == str(clothes)
    # 24 images: batches of 2 leave eight or more an epoch, and 600 steps are 50 epochs
    assert (cfg.train_dataloader.batch_size, cfg.max_epochs) == (2, 50)
    # 28 pixels: the least that is used
    assert cfg.train_pipeline[1].scale == 64
    trains(config)


@pytest.mark.slow
def test_same_split_again(clothes, write):
    config, _ = write('classification', clothes)
    first = lines(config.parent / 'own' / 'val.txt')
    write('classification', clothes, force=True)
    assert lines(config.parent / 'own' / 'val.txt') == first


def test_given_split(tmp_path, write):
    for split, count in (('Train', 3), ('valid', 2), ('test', 1)):
        for name in ('cat', 'train'):
            for i in range(count):
                make_image(tmp_path / 'data' / split / name / f'{i}.png', 100, 80)
    config, said = write('classification', tmp_path / 'data', epochs=7)
    assert lines(config.parent / 'own' / 'val.txt') == [
        'valid/cat/0.png 0', 'valid/cat/1.png 0', 'valid/train/0.png 1', 'valid/train/1.png 1',
    ]  # fmt: skip
    assert len(lines(config.parent / 'own' / 'train.txt')) == 6
    assert '2 images for testing are left out' in said
    assert load_config(config).train_cfg.max_epochs == 7


def test_config_and_data_move_together(tmp_path, clothes, write):
    config, _ = write('classification', clothes)
    moved = tmp_path / 'elsewhere'
    moved.mkdir()
    for path in (config, config.with_suffix(''), clothes):
        shutil.move(path, moved)
    dataset = load_config(moved / 'own.py').train_dataloader.dataset
    assert Path(dataset.data_root) == moved / 'clothes'
    assert Path(dataset.ann_file).is_file()


@pytest.mark.slow
def test_network_of_timm(clothes, write, trains):
    config, _ = write('classification', clothes, backbone='timm:resnet10t')
    trains(config)


def test_bad_folders(tmp_path, clothes, refuses, write):
    assert 'no such folder or file' in refuses('classification', tmp_path / 'absent')
    (tmp_path / 'empty').mkdir()
    assert 'no images in' in refuses('classification', tmp_path / 'empty')
    assert 'has one class, t-shirt' in refuses('classification', one_class(clothes))
    make_image(clothes / 'loose.png')
    assert 'loose.png is in no folder of a class (1 such' in refuses('classification', clothes)
    (clothes / 'loose.png').unlink()
    make_image(clothes / 'train' / 'cat' / '0.png')
    assert 'folders of splits (train) and others (pull over' in refuses('classification', clothes)
    shutil.rmtree(clothes / 'train')
    (clothes / 'trouser' / 'x.png').write_bytes(b'no image')
    assert 'cannot read' in refuses('classification', clothes)
    (clothes / 'trouser' / 'x.png').unlink()
    assert '--size takes xtiny, tiny, small' in refuses('classification', clothes, size='huge')
    line = refuses('classification', clothes, backbone='timm:resnet5')
    assert 'did you mean' in line and 'resnet50' in line
    assert 'FILE.py, not own.txt' in refuses('classification', clothes, out=tmp_path / 'own.txt')
    line = refuses('classification', clothes, out=tmp_path / 'clothes.py', force=True)
    assert 'clothes is where the data are' in line
    make_image(tmp_path / 'maps' / 'images' / '0.png')
    make_image(tmp_path / 'maps' / 'masks' / '0.png')
    line = refuses('classification', tmp_path / 'maps')
    assert 'has the folders images, masks, which are no classes' in line
    config, _ = write('classification', clothes)
    assert f'{config} is there; --force' in refuses('classification', clothes)


def one_class(clothes: Path) -> Path:
    target = clothes.parent / 'one'
    shutil.copytree(clothes / 't-shirt', target / 't-shirt')
    return target


def test_class_to_validate_alone(tmp_path, refuses):
    for path in ('train/cat', 'train/dog', 'val/cat', 'val/dgo'):
        make_image(tmp_path / 'data' / path / '0.png')
    assert 'no image to train on of dgo' in refuses('classification', tmp_path / 'data')
