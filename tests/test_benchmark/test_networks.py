"""Networks from configs and from timm: sizes, boxes, and which recipes are the same."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from scopevit.benchmark.complexity import count_complexity
from scopevit.benchmark.networks import (
    Network,
    TwoStageForward,
    find_recipes,
    from_config,
    from_name,
    from_timm,
    input_shape,
    network_key,
    spread_boxes,
    tensor_forward,
)
from scopevit.engine.config import load_config
from scopevit.errors import InputError

CONFIGS = Path(__file__).parents[2] / 'configs'
CLASSIFICATION = CONFIGS / 'classification' / 'scopevit-tiny_8xb128_in1k.py'


@pytest.mark.parametrize(
    'recipe, shape',
    [
        ('classification/scopevit-tiny_8xb128_in1k', (3, 256, 256)),
        ('detection/mask-rcnn_scopevit-tiny_fpn_1x_coco', (3, 800, 1344)),
        ('segmentation/fpn_scopevit-tiny_8xb4-80k_ade20k-512x512', (3, 512, 512)),
        ('pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192', (3, 256, 192)),
        ('classification/mocov3_scopevit-tiny_16xb256-300e_in1k', (3, 224, 224)),
        ('detection/dino-4scale_scopevit-tiny_8xb2-12e_coco', (3, 800, 1333)),
        ('detection/rtmdet_scopevit-tiny_8xb32-300e_coco', (3, 640, 640)),
        ('pose/rtmo_scopevit-tiny_8xb32-600e_coco-640x640', (3, 640, 640)),
        ('demo/classification_scopevit-xtiny_fashion-mnist', (1, 56, 56)),
        ('demo/mask-rcnn_scopevit-xtiny_fpn_nuclei', (3, 512, 512)),
        ('demo/fpn_scopevit-xtiny_nuclei', (3, 256, 256)),
        ('demo/td-hm_scopevit-xtiny_people-256x192', (3, 256, 192)),
    ],
)
def test_shape_is_the_recipes(recipe, shape):
    assert input_shape(load_config(CONFIGS / f'{recipe}.py')) == shape


def test_a_tuple_of_classification_is_width_and_height(make_task):
    task = make_task('classification')
    task.edit("dict(type='Resize', scale=64)", "dict(type='Resize', scale=(96, 64))")
    assert input_shape(load_config(task.config)) == (3, 64, 96)


@pytest.mark.parametrize(
    'name, backbone, shape',
    [
        ('classification', 'ScopeViT', (3, 64, 64)),
        ('segmentation', 'ScopeViT', (3, 64, 64)),
        ('pose', 'ScopeViT', (3, 64, 64)),
    ],
)
def test_runs_on_noise_without_data_samples(make_task, name, backbone, shape):
    network = from_config(make_task(name).config)
    assert (network.task, network.backbone, network.shape) == (name, backbone, shape)
    assert not network.model.training
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in network.module.modules())
    with torch.no_grad():
        out = network.module(network.make_input(2))
    expected = {'classification': (2, 3), 'segmentation': (2, 4, 16, 16), 'pose': (2, 17, 16, 16)}
    assert tuple(out.shape) == expected[name]


def test_channels_are_those_of_the_data_preprocessor():
    network = from_config(CONFIGS / 'demo' / 'classification_scopevit-xtiny_fashion-mnist.py')
    assert network.make_input(2).shape == (2, 1, 56, 56)


def test_two_stage_detector_runs_on_fixed_boxes(make_task):
    network = from_config(make_task('detection').config)
    assert network.shape == (3, 128, 128)
    with torch.no_grad():
        (rpn_scores, _), (scores, boxes), masks = network.module(network.make_input(2))
    assert len(rpn_scores) == 4
    # 2 images x 10 boxes, 3 classes and the background
    assert scores.shape == (20, 4)
    assert boxes.shape == (20, 12)
    assert masks.shape == (20, 3, 28, 28)


def test_box_and_mask_head_count_with_the_boxes_of_test_cfg(make_task):
    network = from_config(make_task('detection').config)
    counts = {c.name: c.multiply_adds for c in count_complexity(network, depth=2)}
    per_box = 16 * 49 * 16 + 16 * 16 + 16 * 4 + 16 * 12
    assert counts['roi_head.bbox_head'] == 10 * per_box
    # 3x3 convolution, 2x2 transposed convolution from 14x14, 1x1 convolution at 28x28
    per_mask = 196 * 9 * 16 * 16 + 196 * 4 * 16 * 16 + 784 * 16 * 3
    assert counts['roi_head.mask_head'] == 10 * per_mask
    parts = ('backbone', 'neck', 'rpn_head', 'roi_head')
    assert counts[''] == sum(counts[part] for part in parts)


def test_every_stage_of_a_cascade_counts():
    recipe = CONFIGS / 'detection' / 'cascade-mask-rcnn_scopevit-tiny_fpn_1x_coco.py'
    counts = {c.name: c.multiply_adds for c in count_complexity(from_config(recipe), depth=2)}
    per_box = 256 * 49 * 1024 + 1024 * 1024 + 1024 * 81 + 1024 * 4  # boxes of no class
    assert counts['roi_head.bbox_head'] == 3 * 1000 * per_box
    per_mask = 196 * 4 * 9 * 256 * 256 + 196 * 4 * 256 * 256 + 784 * 256 * 80
    assert counts['roi_head.mask_head'] == 3 * 100 * per_mask


@pytest.mark.parametrize(
    'recipe, classes',
    [
        ('detection/mask2former_scopevit-tiny_8xb2-lsj-50e_coco-panoptic', 134),
        ('segmentation/mask2former_scopevit-tiny_8xb2-160k_ade20k-512x512', 151),
    ],
)
def test_queries_are_asked_about_noise(recipe, classes):
    network = from_config(CONFIGS / f'{recipe}.py', (64, 96))
    with torch.no_grad():
        scores, masks = network.module(network.make_input(2))
    assert len(scores) == len(masks) == 10  # those of the queries alone, and of nine layers
    assert (scores[-1].shape, masks[-1].shape) == ((2, 100, classes), (2, 100, 16, 24))


def test_boxes_spread_over_the_image():
    boxes = spread_boxes(torch.zeros(2, 3, 800, 1344), 1000)
    assert boxes.shape == (2000, 5)
    assert boxes[:, 0].tolist() == [0] * 1000 + [1] * 1000
    x0, y0, x1, y1 = boxes[:1000, 1:].T
    assert (x0 >= 0).all() and (y0 >= 0).all() and (x1 <= 1344).all() and (y1 <= 800).all()
    assert (x1 - x0 > 0).all() and (y1 - y0 > 0).all()
    quarters = {(bool(a), bool(b)) for a, b in zip((x0 + x1) / 2 > 672, (y0 + y1) / 2 > 400)}
    assert len(quarters) == 4
    # 41 columns 1344/41 apart: the centre of the 21st is that of the image
    assert boxes[20].tolist() == pytest.approx([0, 672 - 16, 0, 672 + 16, 16 + 800 / 25 / 2])


class Detector(nn.Module):
    with_rpn = with_roi_head = True
    roi_head = nn.Identity()


def test_other_roi_heads_are_refused_by_name():
    with pytest.raises(InputError, match=r'x\.py: .*StandardRoIHead .* not Identity'):
        tensor_forward(Detector(), 'x.py')


def test_two_stage_wrapper_shows_the_detector(make_task):
    network = from_config(make_task('detection').config)
    assert isinstance(network.module, TwoStageForward)
    assert type(network.model).__name__ == 'MaskRCNN'


def test_timm_brings_its_own_size():
    assert from_timm('test_vit').shape == (3, 160, 160)
    assert from_name('test_vit', (64, 96)).shape == (3, 64, 96)


def test_unknown_timm_name_gets_near_ones():
    with pytest.raises(InputError, match="no model 'test_vitt'; did you mean test_vit"):
        from_timm('test_vitt')


def test_missing_config_is_named():
    with pytest.raises(InputError, match='config not found: no/such.py'):
        from_name('no/such.py')


def test_size_that_the_config_does_not_tell(make_task):
    task = make_task('classification')
    task.edit("dict(type='Resize', scale=64), ", '')
    with pytest.raises(InputError, match=r'classification\.py does not tell .* --shape'):
        from_config(task.config)
    assert from_config(task.config, (32, 48)).shape == (3, 32, 48)


def test_failure_names_network_and_size():
    network = Network('lin', 'here', 'classification', 'lin', (3, 5, 7), nn.Linear(9, 2))
    with pytest.raises(InputError, match='lin does not run on images of 5x7: RuntimeError'):
        count_complexity(network)


def test_recipes_of_a_folder_without_bases(tmp_path):
    for name in ('b.py', 'peers/a.py', '_base_/x.py', 'peers/_base_/y.py', 'README.md'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_recipes([str(tmp_path / 'peers' / 'a.py'), str(tmp_path)])
    assert [str(path.relative_to(tmp_path)) for path in found] == ['peers/a.py', 'b.py']


def test_relative_and_absolute_path_are_one_recipe(tmp_path, monkeypatch):
    (tmp_path / 'a.py').touch()
    monkeypatch.chdir(tmp_path)
    assert find_recipes(['a.py', tmp_path / 'a.py']) == [Path('a.py')]


def test_folder_without_recipes_and_missing_file(tmp_path):
    with pytest.raises(InputError, match='no recipe'):
        find_recipes([str(tmp_path)])
    with pytest.raises(InputError, match='no config and no folder'):
        find_recipes([str(tmp_path / 'x.py')])


def test_recipes_share_a_network_whatever_their_training():
    cfg = load_config(CLASSIFICATION)
    other = copy.deepcopy(cfg)
    other.model.backbone.drop_path_rate = 0.3
    other.model.train_cfg = None
    other.model.head.loss = dict(type='CrossEntropyLoss')
    other.train_cfg.max_epochs = 3
    assert network_key(cfg) == network_key(other)
    assert network_key(cfg) != network_key(other, (224, 224))
    other.model.backbone.arch = 'small'
    assert network_key(cfg) != network_key(other)
