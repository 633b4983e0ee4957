"""Predictions of training on a GPU: against a real pass on a CPU, the libraries, and by hand."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_cuda import needs_cuda_code, only_fake_cuda
from marks import rest_is_slow
from mmengine.structures import InstanceData, PixelData
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from scopevit.benchmark.fake_cuda import backward
from scopevit.benchmark.memory import PeakMemory
from scopevit.benchmark.networks import spread_boxes
from scopevit.benchmark.predict import (
    GPU,
    Prediction,
    StepCost,
    count_passes,
    predict_step,
    training_size,
)
from scopevit.benchmark.predict_table import (
    limits_text,
    our_recipes,
    predictions_table,
)
from scopevit.benchmark.training import pool_evenly, training_loss
from scopevit.engine.config import load_config
from scopevit.engine.model import build_model
from scopevit.errors import InputError

CONFIGS = Path(__file__).parents[2] / 'configs'


def measure(model, size, back, autocast=None):
    """Peaks of a forward and of both passes on the CPU, by the one way that both tensors know."""
    model.zero_grad()
    with PeakMemory() as memory, sdpa_kernel(SDPBackend.MATH):
        images = torch.empty(2, 3, *size).fill_(0.5)
        with torch.autocast('cpu', autocast, enabled=autocast is not None):
            loss = training_loss(model, images)
        forward = memory.peak_bytes
        back(loss)
    return forward, memory.peak_bytes


def renew(model):
    """Gives a model new parameters and buffers, which are of the kind that torch now makes."""
    for part in model.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(torch.empty(parameter.shape))
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


@pytest.mark.parametrize(
    'recipe, size',
    rest_is_slow(
        [
            ('classification/scopevit-xtiny_8xb128_in1k', (128, 128)),
            ('segmentation/upernet_scopevit-xtiny_8xb2-160k_ade20k-512x512', (64, 128)),
            ('segmentation/fpn_scopevit-xtiny_8xb4-80k_ade20k-512x512', (128, 96)),
            ('pose/td-hm_scopevit-xtiny_8xb32-210e_coco-256x192', (128, 96)),
            ('detection/retinanet_scopevit-xtiny_fpn_1x_coco', (128, 160)),
        ]
    ),
)
@pytest.mark.parametrize('autocast', rest_is_slow([None, torch.bfloat16]), ids=str)
def test_fake_tensors_take_the_memory_of_real_ones(recipe, size, autocast):
    model = build_model(load_config(CONFIGS / f'{recipe}.py')).train()
    real = measure(model, size, lambda loss: loss.backward(), autocast)
    with FakeTensorMode():
        renew(model)
        fake = measure(model, size, backward, autocast)
    assert fake[0] == pytest.approx(real[0], rel=0.002)
    # The engine adds some gradients in place.
    assert fake[1] == pytest.approx(real[1], rel=0.02)


@pytest.mark.parametrize('method', rest_is_slow(['fpn', 'upernet']))
def test_losses_of_segmentation_are_those_of_mmseg(method):
    from mmseg.structures import SegDataSample

    recipe = next((CONFIGS / 'segmentation').glob(f'{method}_scopevit-xtiny_*'))
    model = build_model(load_config(recipe)).train()
    images = torch.rand(2, 3, 64, 96)
    labels = torch.zeros(1, 64, 96, dtype=torch.int64)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=labels)) for _ in images]

    def their_loss():
        losses = model.loss(images, samples)
        return sum(loss for name, loss in losses.items() if 'loss' in name)

    losses, peaks = [], []
    for loss_of in (their_loss, lambda: training_loss(model, images)):
        model.zero_grad()
        torch.manual_seed(0)  # of stochastic depth
        with PeakMemory() as memory:
            losses.append(loss_of())
            losses[-1].backward()
        peaks.append(memory.peak_bytes)
    assert losses[0].item() == pytest.approx(losses[1].item())
    assert peaks[0] == pytest.approx(peaks[1], rel=0.01)


def detection_sample(count, size):
    """Annotations of one image: boxes spread over it, each with its mask."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    boxes = spread_boxes(torch.zeros(1, 3, *size), count)[:, 1:]  # (count, 5) -> (count, 4)
    masks = np.ones((count, *size), np.uint8)
    instances = InstanceData(
        bboxes=boxes, labels=torch.zeros(count, dtype=torch.int64), masks=BitmapMasks(masks, *size)
    )
    names = ('img_shape', 'pad_shape', 'ori_shape', 'batch_input_shape')
    return DetDataSample(gt_instances=instances, metainfo=dict.fromkeys(names, size))


def focal_loss_of_gpus(self, pred, target, weight=None, avg_factor=None):
    from mmdet.models.losses.focal_loss import sigmoid_focal_loss

    return sigmoid_focal_loss(pred, target, weight, self.gamma, self.alpha, 'mean', avg_factor)


@pytest.mark.slow
@pytest.mark.parametrize('method, boxes', [('mask-rcnn', 120), ('retinanet', 20)])
def test_memory_of_detection_is_that_of_mmdet(method, boxes, monkeypatch):
    """Few boxes leave the assigner little to do, many the mask head as much as it ever has."""
    recipe = CONFIGS / 'detection' / f'{method}_scopevit-xtiny_fpn_1x_coco.py'
    model = build_model(load_config(recipe)).train()
    monkeypatch.setattr('mmdet.models.losses.FocalLoss.forward', focal_loss_of_gpus)
    images = torch.rand(2, 3, 320, 448)
    samples = [detection_sample(boxes, (320, 448)) for _ in images]

    def their_loss():
        losses = model.loss(images, samples)
        chosen = [loss for name, loss in losses.items() if 'loss' in name]
        return sum(sum(loss) if isinstance(loss, list) else loss for loss in chosen)

    peaks = []
    for loss_of in (their_loss, lambda: training_loss(model, images)):
        model.zero_grad()
        with PeakMemory() as memory:
            loss_of().backward()
        peaks.append(memory.peak_bytes)
    assert peaks[1] == pytest.approx(peaks[0], rel=0.01)


def test_two_stages_see_as_many_boxes_as_are_sampled(make_task):
    cfg = load_config(make_task('detection').config)
    model = build_model(cfg).train()
    rows = {}
    for name in ('bbox_head', 'mask_head'):
        head = getattr(model.roi_head, name)
        head.register_forward_hook(lambda _, given, out, name=name: rows.update({name: given[0]}))
    training_loss(model, torch.rand(2, 3, 128, 128)).backward()
    assert {name: tuple(x.shape) for name, x in rows.items()} == {
        'bbox_head': (2 * 16, 16, 7, 7),
        'mask_head': (2 * 8, 16, 14, 14),  # half of the 16 are positive at most
    }
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing


def test_boxes_are_pooled_from_all_maps(make_task):
    extractor = build_model(load_config(make_task('detection').config)).roi_head.bbox_roi_extractor
    maps = tuple(torch.full((2, 16, 128 // s, 128 // s), float(s)) for s in (4, 8, 16, 32))
    pooled = pool_evenly(extractor, maps, torch.zeros(2, 3, 128, 128), 10)
    assert pooled.shape == (20, 16, 7, 7)
    assert pooled[:, 0, 3, 3].tolist() == [4.0] * 5 + [8.0] * 5 + [16.0] * 5 + [32.0] * 5


class TwoLayers(nn.Module):
    """Small enough to be followed by hand."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False, device='cuda')

    def forward(self, images, samples, mode):
        assert (samples, mode) == (None, 'tensor')
        return self.conv(images).exp()


@needs_cuda_code
@pytest.mark.parametrize('amp', [False, True])
def test_a_step_worked_out_by_hand(amp):
    images, maps, weight = 2 * 3 * 100, 2 * 4 * 100, 3 * 4  # numbers
    with only_fake_cuda():
        cost = count_passes(TwoLayers(), 2, (3, 10, 10), amp)
    # Forward and backward pass of the convolution; no gradient of the images.
    assert cost.operations == 2 * (2 * images * 4)
    if amp:  # images in both types; the map in float16, as float32 for exp, and what exp gives
        assert cost.peak_bytes == 6 * images + 2 * weight + 10 * maps
    else:
        assert cost.peak_bytes == 4 * (images + 2 * maps + 2)  # and the sum, and its gradient
        moved = images + weight + maps  # convolution
        moved += 2 * maps + maps + 1  # exp, sum
        moved += 1 + 1 + 2 * maps + 1  # ones, gradients of sum (expanded) and exp
        moved += maps + images + 2 * weight  # gradient of the convolution
        assert cost.moved_bytes == pytest.approx(4 * moved, rel=0.01)


@needs_cuda_code
def test_a_recipe(make_task):
    cfg = load_config(make_task('classification').config)
    model = build_model(cfg)
    parameters = 4 * sum(p.numel() for p in model.parameters())
    buffers = sum(b.nbytes for b in model.buffers())
    plain = predict_step(cfg)
    assert (plain.name, plain.shape, plain.batch_size) == ('classification', (3, 64, 64), 4)
    assert plain.state_bytes == parameters + buffers  # SGD without momentum
    assert 0 < plain.amp.peak_bytes < plain.float32.peak_bytes
    assert plain.amp.operations == plain.float32.operations

    cfg.optim_wrapper.optimizer = dict(type='AdamW', lr=0.1)
    cfg.custom_hooks = [dict(type='EMAHook')]
    averaged = predict_step(cfg)
    assert averaged.state_bytes == 2 * (parameters + buffers) + 2 * parameters
    more = averaged.state_bytes - plain.state_bytes
    assert averaged.amp.peak_bytes == plain.amp.peak_bytes + more
    # Two numbers more are read and written of each parameter.
    assert averaged.amp.moved_bytes == plain.amp.moved_bytes + 4 * parameters


# One of a method and of a size of images, beside those of `test_fake_tensors_...` above.
METHODS = [
    'detection/cascade-mask-rcnn_scopevit-tiny_fpn_1x_coco',
    'detection/rtmdet-ins_scopevit-tiny_8xb32-300e_coco',
    'pose/rtmo_scopevit-tiny_8xb32-600e_coco-640x640',
    'segmentation/segformer_scopevit-tiny_8xb2-160k_ade20k-512x512',
]


@needs_cuda_code
@pytest.mark.slow
@pytest.mark.parametrize('name', METHODS)
def test_each_kind_of_recipe(name):
    prediction = predict_step(load_config(CONFIGS / f'{name}.py'))
    assert 1 < prediction.amp.peak_bytes / 2**30 < prediction.float32.peak_bytes / 2**30 < 40


@needs_cuda_code
@pytest.mark.parametrize(
    'name',
    [
        'detection/dino-4scale_scopevit-tiny_8xb2-12e_coco',
        'detection/mask2former_scopevit-tiny_8xb2-lsj-50e_coco',
        'segmentation/mask2former_scopevit-tiny_8xb2-160k_ade20k-512x512',
    ],
)
def test_a_recipe_with_queries_is_refused(name):
    with pytest.raises(InputError, match='queries depend on annotations: what depends on numbers'):
        predict_step(load_config(CONFIGS / f'{name}.py'))


def test_our_recipes_are_those_of_the_folders():
    names = [recipe.stem for recipe in our_recipes()]
    assert len(names) == len(set(names)) == 41
    assert all('scopevit-' in name for name in names)


@pytest.mark.parametrize(
    'scale, size', [(96, (96, 96)), ((96, 64), (64, 96)), (None, None)], ids=str
)
def test_size_of_training_is_that_of_the_crops(make_task, scale, size):
    cfg = load_config(make_task('classification').config)
    if scale:
        step = dict(type='RandomResizedCrop', scale=scale)
        cfg.train_dataloader.dataset.pipeline = [step, dict(type='PackInputs')]
    assert training_size(cfg) == size


@needs_cuda_code
@pytest.mark.parametrize(
    'change, message',
    [
        (dict(train_dataloader=dict(batch_size=None)), 'has no train_dataloader.batch_size'),
        (
            dict(optim_wrapper=dict(optimizer=dict(type='Lion'))),
            "optim_wrapper.optimizer.type must be one of Adam, AdamW, SGD to be predicted, not 'Li",
        ),
        (dict(model=dict(head=dict(in_channels=7))), 'classification does not run on images of 64'),
    ],
    ids=['batch', 'optimizer', 'network'],
)
def test_bad_input(make_task, change, message):
    cfg = load_config(make_task('classification').config)
    cfg.merge_from_dict(change)
    with pytest.raises(InputError, match=re.escape(message)):
        predict_step(cfg)


@needs_cuda_code
def test_what_depends_on_numbers_is_an_error(make_task, monkeypatch):
    cfg = load_config(make_task('classification').config)
    monkeypatch.setattr(
        'scopevit.benchmark.predict.training_loss', lambda model, images: images.nonzero().sum()
    )
    with pytest.raises(InputError, match='aten.nonzero.default gives depends on numbers'):
        predict_step(cfg)


COST = StepCost(peak_bytes=3 * 2**30, moved_bytes=10**12, operations=10**14, operators=1000)
BUSY = StepCost(peak_bytes=2**30, moved_bytes=10**10, operations=10**15, operators=1500)
PREDICTION = Prediction('tiny', (3, 64, 96), 20, 2**20, float32=COST, amp=BUSY)


def test_images_a_second_are_those_of_the_longer_time():
    gpu = GPU('G', bandwidth=2e12, half_rate=4e14, float_rate=1e14)
    # float32: 0.5 s of memory, 1 s of arithmetic; AMP: 0.005 s, 2.5 s
    assert PREDICTION.images_per_second(gpu, amp=False) == pytest.approx(20 / 1)
    assert PREDICTION.images_per_second(gpu, amp=True) == pytest.approx(20 / 2.5)
    slow = GPU('G', bandwidth=1e11, half_rate=4e14, float_rate=1e14)
    assert PREDICTION.images_per_second(slow, amp=False) == pytest.approx(20 / 10)
    limits = [PREDICTION.limit(which, amp=False) for which in (gpu, slow)]
    assert limits == ['arithmetic', 'bandwidth']


def test_table():
    header, _, row = predictions_table([PREDICTION]).splitlines()
    cells = [re.split(r' *\| *', line)[1:-1] for line in (header, row)]
    found = dict(zip(*cells))
    assert found['input'] == '64×96'
    assert found['operators, float32 / AMP'] == '1000 / 1500'
    assert found['peak memory predicted, float32 (GiB)'] == '3.00'
    assert found['peak memory predicted, AMP (GiB)'] == '1.00'
    # 1 s by 1e14 / 156e12, but 10^12 bytes take 0.49 s; 10^15 operations take 3.2 s
    assert found['A100, float32: images/s at most'] == '31.2'
    assert found['A100, AMP: images/s at most'] == '6.24'
    assert found['limited by'] == 'bandwidth; A100 float32, A100 AMP, H100 AMP: arithmetic'


def test_limits_that_are_all_one():
    assert limits_text(dataclasses.replace(PREDICTION, float32=BUSY)) == 'arithmetic'
