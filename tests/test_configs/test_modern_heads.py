"""Heads that the paper has not: what is built, how it is trained, that it learns and predicts."""

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from batches import BATCHES, HEIGHT, WIDTH, Network, read_image
from mmcv.cnn.bricks import DropPath
from mmdet.structures import DetDataSample
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.structures import InstanceData, PixelData
from mmpose.registry import KEYPOINT_CODECS
from mmpose.structures import PoseDataSample
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from recipes import MODERN, build, load, method, parameters_of_kind
from torch import nn

from scopevit.models.sizes import ARCHS

DROP_PATH_RATES = {'detection': 0.1, 'segmentation': 0.1, 'pose': 0.15, 'classification': 0.0}


@dataclass(frozen=True)
class Optimizer:
    """AdamW as the head's own recipe has it.

    Attributes:
        lr: Learning rate of the heads, or most of them.
        backbone_lr: That of the backbone.
        weight_decay: Of the backbone's parameters that are not `spared`.
        spared: Kinds of the backbone's parameters without weight decay.
    """

    lr: float
    backbone_lr: float
    weight_decay: float
    spared: tuple[str, ...] = ('norms', 'layer scale')


ALL_VECTORS = ('norms', 'layer scale', 'biases')
OPTIMIZERS = {
    'rtmdet': Optimizer(2e-3, 2e-3, 0.05, ALL_VECTORS),
    'rtmdet-ins': Optimizer(2e-3, 2e-3, 0.05, ALL_VECTORS),
    'dino-4scale': Optimizer(1e-4, 1e-5, 1e-4, ()),
    'mask2former': Optimizer(1e-4, 1e-5, 0.05),
    'cascade-mask-rcnn': Optimizer(2e-4, 2e-4, 0.05),
    'segformer': Optimizer(6e-4, 6e-5, 0.01),
    'rtmpose': Optimizer(4e-3, 4e-3, 0.0),
    'rtmo': Optimizer(4e-3, 4e-3, 0.05, ALL_VECTORS),
    'mocov3': Optimizer(2.4e-3, 2.4e-3, 0.1),
}
# Without the number of the layer, as in 'd3.loss_cls' of a decoder's fourth.
LOSSES = {
    'rtmdet': {'loss_cls', 'loss_bbox'},
    'rtmdet-ins': {'loss_cls', 'loss_bbox', 'loss_mask'},
    'dino-4scale': {
        f'{part}loss_{kind}' for part in ('', 'enc_', 'dn_') for kind in ('cls', 'bbox', 'iou')
    },
    'mask2former': {'loss_cls', 'loss_mask', 'loss_dice'},
    'cascade-mask-rcnn': {
        'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'
    },
    'segformer': {'loss_ce'},
    'rtmpose': {'loss_kpt'},
    'rtmo': {'loss_bbox', 'loss_vis', 'loss_mle', 'loss_oks', 'loss_cls'},
    'mocov3': {'loss'},
}  # fmt: skip
BOXES_ALONE = ('rtmdet', 'dino-4scale')


@pytest.fixture(scope='module', params=MODERN)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    cfg = load(request.param)
    yield Network(request.param, cfg, build(cfg, shrink(cfg.model)))


def shrink(model: dict) -> dict:
    """Fewer queries, proposals, points and pixels, for the sake of speed."""
    model = copy.deepcopy(model)
    preprocessor = model.get('data_preprocessor', {})
    for augment in preprocessor.get('batch_augments') or []:
        if 'size' in augment:
            augment.size = (96, 64)
    if model.type == 'EncoderDecoder':
        preprocessor.size = (HEIGHT, WIDTH)
    for head in ('panoptic_head', 'decode_head'):
        if 'num_queries' in model.get(head, {}):
            model[head].num_queries = 8
    if model.type == 'DINO':
        model.num_queries = 20  # there are 91 places
        model.test_cfg.max_per_img = 3
    elif model.type == 'CascadeRCNN':
        model.train_cfg.rpn_proposal.max_per_img = 20
        model.test_cfg.rpn.max_per_img = 20
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=3)
    elif model.type == 'RTMDet':
        model.test_cfg.update(score_thr=0.0, max_per_img=3)
    elif model.type == 'Mask2Former':
        model.train_cfg.num_points = 100
        model.test_cfg.max_per_image = 3
    elif model.type == 'BottomupPoseEstimator':
        preprocessor.batch_augments = None  # which counts iterations
        model.test_cfg.score_thr = 0.0
    return model


def test_channels_are_those_of_the_maps(network):
    model = network.cfg.model
    widths = ARCHS['tiny']['embed_dims']
    maps = [widths[i] for i in network.model.backbone.out_indices]
    heads = [model.get(part) or {} for part in ('neck', 'decode_head', 'panoptic_head', 'head')]
    (taken,) = [head['in_channels'] for head in heads if 'in_channels' in head][:1]
    assert maps == (taken if isinstance(taken, list) else [taken])


def test_drop_path_rate(network):
    rates = [m.drop_prob for m in network.model.backbone.modules() if isinstance(m, DropPath)]
    rate = DROP_PATH_RATES[network.recipe.partition('/')[0]]
    assert (rates[0], rates[-1]) == (0, pytest.approx(rate))


def test_backbone_starts_as_the_authors_start_it(network):
    # mmpose would draw it anew, by the init_cfg of the whole model.
    for layer in network.model.backbone.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
            assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)


def test_optimizer(network):
    expected = OPTIMIZERS[method(network.recipe)]
    scope = OPTIM_WRAPPER_CONSTRUCTORS.switch_scope_and_registry(network.cfg.default_scope)
    with scope:
        wrapper = build_optim_wrapper(network.model, network.cfg.optim_wrapper)
    assert type(wrapper.optimizer) is torch.optim.AdamW
    groups = {id(p): g for g in wrapper.optimizer.param_groups for p in g['params']}
    backbone = dict(network.model.backbone.named_parameters())
    trained = {id(p) for p in network.model.parameters() if p.requires_grad}
    assert trained <= set(groups)
    rates = [groups[id(p)]['lr'] for p in backbone.values()]
    assert rates == pytest.approx([expected.backbone_lr] * len(rates))
    assert max(group['lr'] for group in groups.values()) == pytest.approx(expected.lr)
    spared = {
        id(p) for kind in expected.spared for p in parameters_of_kind(network.model, kind)
    }  # fmt: skip
    for name, p in backbone.items():
        decay = 0.0 if id(p) in spared else expected.weight_decay
        assert groups[id(p)]['weight_decay'] == pytest.approx(decay), name


def test_optimizer_names_no_parameters_of_other_networks(network):
    keys = network.cfg.optim_wrapper.get('paramwise_cfg', {}).get('custom_keys', {})
    names = [name for name, _ in network.model.named_parameters()]
    assert {key for key in keys if not any(key in name for name in names)} == set()


# One step -----------------------------------------------------------------------------------------


def make_batch(network: Network) -> dict:
    name = method(network.recipe)
    if name == 'mocov3':
        image = read_image(HEIGHT, WIDTH)
        views = torch.stack([image, image.flip(1)])  # two images
        return dict(inputs=[views, views.flip(3)], data_samples=[DataSample()] * 2)
    if name == 'rtmpose':
        return simcc_batch(network)
    if name == 'rtmo':
        return one_stage_batch()
    batch = BATCHES[network.recipe.partition('/')[0]](network)
    if network.recipe.endswith('panoptic.py'):
        labels = torch.full((1, HEIGHT, WIDTH), 132)  # what is no thing is the last stuff
        for i, mask in enumerate(batch['data_samples'][0].gt_instances.masks.masks):
            labels[0, torch.from_numpy(mask) > 0] = (0, 79)[i]
        batch['data_samples'][0].gt_sem_seg = PixelData(sem_seg=labels)
    if name in BOXES_ALONE:
        del batch['data_samples'][0].gt_instances.masks
    return batch


def simcc_batch(network: Network) -> dict:
    """A person of 256x192, the only size of this head; keypoint k is at (9 k, 12 k)."""
    width, height = 192, 256
    keypoints = np.arange(17, dtype=np.float32)[None, :, None] * np.float32([9, 12])
    codec = KEYPOINT_CODECS.build(dict(network.cfg.model.head.decoder))
    targets = codec.encode(keypoints, np.ones((1, 17), np.float32))
    sample = PoseDataSample(
        gt_instances=InstanceData(
            bboxes=np.array([[0.0, 0.0, width, height]]), bbox_scores=np.ones(1)
        ),
        gt_instance_labels=InstanceData(
            **{key: torch.from_numpy(value) for key, value in targets.items()}
        ),
        metainfo=dict(
            img_shape=(height, width),
            input_size=(width, height),
            input_center=np.array([width / 2, height / 2]),
            input_scale=np.array([width, height], np.float64),
            flip_indices=[0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15],
        ),
    )
    return dict(inputs=[read_image(height, width)] * 2, data_samples=[sample] * 2)


def one_stage_batch() -> dict:
    """An image with two people, padded to multiples of 32."""
    height, width = 96, 64
    boxes = torch.tensor([[7.0, 14.0, 35.0, 60.0], [28.0, 20.0, 53.0, 41.0]])
    steps = torch.linspace(0.1, 0.9, 17)[None, :, None]
    keypoints = boxes[:, None, :2] + steps * (boxes[:, 2:] - boxes[:, :2])[:, None]  # (2, 17, 2)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    labels = InstanceData(
        bboxes=boxes,
        labels=torch.zeros(2, dtype=torch.long),
        keypoints=keypoints,
        keypoints_visible=torch.ones(2, 17),
        areas=areas / 2,
    )
    meta = dict(
        img_shape=(height, width),
        input_size=(width, height),
        input_center=np.array([width / 2, height / 2]),
        input_scale=np.array([width, height], np.float64),
    )
    samples = [
        PoseDataSample(gt_instance_labels=copy.deepcopy(labels), metainfo=meta) for _ in range(2)
    ]
    return dict(inputs=[read_image(height, width)] * 2, data_samples=samples)


def test_one_training_step_reaches_every_weight(network):
    model = network.model
    model.train()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.eval()  # a layer that is skipped gets no gradient
    torch.manual_seed(0)
    np.random.seed(0)
    data = model.data_preprocessor(make_batch(network), training=True)
    losses = model(**data, mode='loss')
    names = {re.sub(r'^(decode\.)?([ds]\d\.)?', '', name) for name in losses if 'loss' in name}
    assert names == LOSSES[method(network.recipe)]
    loss, _ = model.parse_losses(losses)
    assert math.isfinite(loss)
    model.zero_grad()
    loss.backward()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert [name for name, p in trained if p.grad is None] == []
    assert all(p.grad.isfinite().all() for _, p in trained)
    matrices = [(n, p) for n, p in model.backbone.named_parameters() if p.ndim > 1]
    assert [name for name, p in matrices if not p.grad.any()] == []
    model.zero_grad()


def test_one_prediction(network):
    if method(network.recipe) == 'mocov3':
        pytest.skip('it predicts nothing; its backbone goes on in another recipe')
    model = network.model
    model.eval()
    batch = make_batch(network)
    with torch.no_grad():
        data = model.data_preprocessor(batch)
        samples = model(**data, mode='predict')
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    expected = (batch['inputs'][0][:, 40, 30].flip(0) - mean) / std
    assert torch.allclose(data['inputs'][0][:, 40, 30], expected, atol=1e-4)
    CHECKS[network.recipe.partition('/')[0]](network, samples[0])


def check_detection(network: Network, sample: DetDataSample) -> None:
    found = sample.pred_instances
    assert found.bboxes.shape == (3, 4)
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert ((found.labels >= 0) & (found.labels < 80)).all()
    assert ('masks' in found) != (method(network.recipe) in BOXES_ALONE)
    if 'masks' in found:
        assert found.masks.shape == (3, HEIGHT, WIDTH)
    assert ('pred_panoptic_seg' in sample) == network.recipe.endswith('panoptic.py')
    if 'pred_panoptic_seg' in sample:
        assert sample.pred_panoptic_seg.sem_seg.shape == (1, HEIGHT, WIDTH)


def check_segmentation(network: Network, sample: SegDataSample) -> None:
    assert sample.pred_sem_seg.data.shape == (1, HEIGHT, WIDTH)
    assert sample.seg_logits.data.shape == (150, HEIGHT, WIDTH)
    assert sample.seg_logits.data.isfinite().all()


def check_pose(network: Network, sample: PoseDataSample) -> None:
    found = sample.pred_instances
    assert found.keypoints.shape[1:] == (17, 2)
    assert len(found.keypoints) == len(found.keypoint_scores) >= 1
    assert np.isfinite(found.keypoints).all()


CHECKS = {'detection': check_detection, 'segmentation': check_segmentation, 'pose': check_pose}
