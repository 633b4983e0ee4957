"""What is drawn of a config's data set: colours, geometry, mixtures and stages."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmpretrain.structures import DataSample

from scopevit.analysis.browse import annotates_late, browse, keep_original_steps, take_sample

RGB = (200, 30, 10)
# mmseg covers everything with the label's colour, black for the background: a fifth is left.
SHOWN = {'classification': RGB, 'detection': RGB, 'pose': RGB, 'segmentation': (40, 6, 2)}


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr('scopevit.analysis.pictures.LONG_SIDE', 320)


def paint_images(data: Path) -> None:
    """Makes every image one colour, so that all else in a picture was drawn."""
    for path in (data / 'images').iterdir():
        image = np.full_like(cv2.imread(str(path)), RGB[::-1])
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 100])


def read_picture(path: Path) -> np.ndarray:
    """Reads a picture as (H, W, 3), RGB."""
    return cv2.imread(str(path))[..., ::-1]


def is_color(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Where a picture has a colour, up to what JPEG and alpha round; (H, W)."""
    return (np.abs(picture.astype(int) - color) <= 4).all(-1)


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('name', SHOWN)
def test_colours_are_those_of_the_file(name, split, make_task, tmp_path):
    task = make_task(name)
    if name == 'classification':
        task.edit('data_preprocessor=norm', 'data_preprocessor=dict(to_rgb=True, **norm)')
    paint_images(task.data)
    for stages in ('original', 'transformed'):
        *pictures, _ = browse(task.config, split, 1, stages, tmp_path / stages)
        assert len(pictures) == 1
        for path in pictures:
            picture = read_picture(path)
            if stages == 'transformed' and name == 'pose' and split == 'train':
                picture = picture[:, : picture.shape[1] // 2]  # beside it is the heatmap
            shown = is_color(picture, SHOWN[name]).mean()
            assert 0.4 < shown < 1, path


@pytest.mark.parametrize('split', ['train', 'val'])
def test_annotations_are_where_the_objects_are(split, make_task, tmp_path):
    # Training loads boxes and masks before it resizes, validation after it.
    task = make_task('detection')
    paint_images(task.data)
    drawn = {}
    for stages in ('original', 'transformed'):
        path, _ = browse(task.config, split, 1, stages, tmp_path / stages)
        picture = cv2.resize(read_picture(path), (250, 250), interpolation=cv2.INTER_AREA)
        drawn[stages] = ~is_color(picture, RGB)
    both = (drawn['original'] & drawn['transformed']).sum()
    either = (drawn['original'] | drawn['transformed']).sum()
    assert both / either > 0.6


@pytest.mark.parametrize('split', ['train', 'val'])
def test_label_maps_lie_on_their_images(split, make_task, tmp_path):
    task = make_task('segmentation')
    paint_images(task.data)
    path, _ = browse(task.config, split, 1, out_dir=tmp_path / 'out')
    name = path.stem.split('_', 2)[2]
    mask = cv2.imread(str(task.data / 'masks' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
    expected = cv2.resize(mask, (64, 64), interpolation=cv2.INTER_NEAREST) > 0
    picture = read_picture(path)[:320]  # below it is the legend
    drawn = ~is_color(cv2.resize(picture, (64, 64)), SHOWN['segmentation'])
    assert (drawn & expected).sum() / expected.sum() > 0.7


def test_keypoints_lie_on_the_peaks_of_the_heatmap(make_task, tmp_path):
    task = make_task('pose')
    paint_images(task.data)
    path, _ = browse(task.config, number=1, out_dir=tmp_path / 'out')
    image, heatmap = np.hsplit(read_picture(path), 2)
    # Neither the image's colour nor the black around it.
    drawn = ~is_color(image, RGB) & (image[..., 1] > 80)
    # The colours of a heatmap go from blue, of nothing, to red.
    peaks = heatmap[..., 0] > 140
    assert drawn.sum() > 500
    assert peaks[drawn].mean() > 0.9 > 0.5 > peaks.mean()


def test_padding_without_annotations_is_cut_off(make_task, tmp_path):
    task = make_task('detection')
    task.edit('pad_size_divisor=32', 'pad_size_divisor=96')
    shapes = [
        read_picture(browse(task.config, split, 1, out_dir=tmp_path / split)[0]).shape
        for split in ('train', 'val')
    ]
    # Images of 128x128 pixels, padded to 192x192 with their masks only in training; then doubled.
    assert shapes == [(384, 384, 3), (256, 256, 3)]


def test_pipeline_that_normalises(make_task, tmp_path):
    task = make_task('detection')
    task.edit('bgr_to_rgb=True, **norm', 'pad_value=0')
    task.edit(
        'pipeline=[load, load_annotations, resize, dict(type=',
        "pipeline=[load, load_annotations, resize, dict(type='Normalize', **norm), dict(type=",
    )
    paint_images(task.data)
    path, _ = browse(task.config, number=1, out_dir=tmp_path / 'out')
    assert is_color(read_picture(path), RGB).mean() > 0.4


def test_mixup_is_shown(make_task, tmp_path):
    task = make_task('classification')
    plain = browse(task.config, number=4, out_dir=tmp_path / 'plain')
    augments = "dict(augments=[dict(type='Mixup', alpha=0.8)])"
    task.edit('data_preprocessor=norm', f'data_preprocessor=norm, train_cfg={augments}')
    task.edit('norm = dict(', 'norm = dict(num_classes=3, ')
    mixed = browse(task.config, number=4, out_dir=tmp_path / 'mixed')
    changed = [a.read_bytes() != b.read_bytes() for a, b in zip(plain, mixed)]
    assert sum(changed) >= 3  # one may be mixed with itself, and the contact sheet counts
    # Validation mixes nothing.
    assert len(browse(task.config, 'val', 1, out_dir=tmp_path / 'val')) == 2


def test_same_seed_same_pictures(make_task, tmp_path):
    task = make_task('classification')
    task.edit("scale=64), dict(type='Pack", "scale=64), dict(type='RandomCrop', crop_size=40), "
              "dict(type='Pack")  # fmt: skip
    runs = [browse(task.config, number=3, seed=s, out_dir=tmp_path / f'{i}')
            for i, s in enumerate((1, 1, 2))]  # fmt: skip
    first, again, other = [[(p.name, p.read_bytes()) for p in paths] for paths in runs]
    assert first == again
    assert first != other
    # A sample looks the same however many are drawn.
    everything = {
        p.name: p.read_bytes() for p in browse(task.config, number=5, seed=1, out_dir=tmp_path)
    }
    assert len(everything) == 6
    assert all(everything[name] == data for name, data in first[:-1])


@pytest.mark.parametrize(
    'wrapper',
    [
        "dict(type='RepeatDataset', times=2, dataset=dataset)",
        "dict(type='ConcatDataset', datasets=[dataset, dataset])",
    ],
)
def test_wrapped_data_sets(wrapper, make_task, tmp_path):
    task = make_task('classification')
    task.edit('dataset=dataset, sampler=train_sampler', f'dataset={wrapper}, sampler=train_sampler')
    paths = browse(task.config, number=99, stages='original', out_dir=tmp_path / 'out')
    assert len(paths) == 17
    assert paths[15].name.startswith('train_000015_')


def test_original_pipeline_loads_and_packs():
    load, pack = dict(type='LoadImageFromFile'), dict(type='mmdet.PackDetInputs')
    flip = dict(type='RandomFlip', prob=0.5)
    inner = dict(type='CocoDataset', pipeline=[load, flip], metainfo=dict(palette=[(1, 2, 3)]))
    cfg = dict(type='MultiImageMixDataset', dataset=inner, pipeline=[flip, pack])
    assert keep_original_steps(cfg) == dict(
        type='MultiImageMixDataset', dataset=dict(inner, pipeline=[load]), pipeline=[pack]
    )
    assert inner['pipeline'] == [load, flip]


def test_knows_when_annotations_are_loaded():
    load, annotations = dict(type='LoadImageFromFile'), dict(type='mmdet.LoadAnnotations')
    resize = dict(type='Resize', scale=8)
    assert annotates_late(dict(type='A', pipeline=[load, resize, annotations]))
    assert not annotates_late(dict(type='A', pipeline=[load, annotations, resize]))
    assert not annotates_late(dict(type='A', pipeline=[load, resize]))


class Given:
    """A data set that gives one sample after the other, whatever is asked for."""

    def __init__(self, *paths: str) -> None:
        self.paths = list(paths)

    def __getitem__(self, index: int) -> dict:
        path = self.paths.pop(0) if len(self.paths) > 1 else self.paths[0]
        return dict(data_samples=DataSample(metainfo=dict(img_path=path)))


def test_original_and_transformed_are_of_one_file():
    taken = take_sample({'original': Given('a'), 'transformed': Given('c', 'b', 'a')}, 0)
    assert {sample['data_samples'].img_path for sample in taken.values()} == {'a'}
    assert take_sample({'original': Given('a'), 'transformed': Given('b')}, 0) is None
