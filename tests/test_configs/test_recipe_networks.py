"""Every recipe's model: what it is, what is decayed, one step of training and one prediction."""

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import BATCHES, HEIGHT, WIDTH, Network
from mmcv.cnn.bricks import DropPath
from mmdet.structures import DetDataSample
from mmengine.optim import build_optim_wrapper
from mmpose.structures import PoseDataSample
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from recipes import (
    CONFIGS,
    OURS,
    RECIPES,
    VARIANTS,
    backbone_name,
    build,
    load,
    method,
    parameters_of_kind,
    primitive,
    read,
)
from torch import nn

from scopevit.models.sizes import ARCHS

NETWORKS = [recipe for recipe in RECIPES if recipe not in VARIANTS]

# With 1000 classes.
PARAMETERS = {'xtiny': 5_287_490, 'tiny': 8_006_716, 'small': 18_162_010}
# In millions, with 1000 classes, to 0.01.
PEER_PARAMETERS = {
    'coat-mini': 10.34,
    'convnext-tiny': 28.59,
    'convnextv2-pico': 9.07,
    'crossvit-small': 26.86,
    'deit-small': 22.05,
    'mobilevitv2-150': 10.59,
    'poolformer-s12': 11.92,
    'pvt-small': 24.48,
    'resnet50': 25.56,
    'swin-2g': 12.76,
}

# Of the last block.
DROP_PATH_RATES = {
    'detection': dict(xtiny=0.05, tiny=0.1, small=0.1),
    'segmentation': dict(xtiny=0.1, tiny=0.1, small=0.1),
    'pose': dict(xtiny=0.1, tiny=0.15, small=0.2),
    'classification': dict(xtiny=0.1, tiny=0.1, small=0.1),  # this project's choice
}


@dataclass(frozen=True)
class Optimizer:
    """What the authors train with.

    Attributes:
        type: Class of torch.
        lr: Learning rate.
        weight_decay: Of the parameters that are not `spared`.
        spared: Kinds of parameters without weight decay.
    """

    type: str
    lr: float
    weight_decay: float
    spared: tuple[str, ...] = ()


OPTIMIZERS = {
    'in1k': Optimizer('AdamW', 1e-3, 0.05, ('norms', 'layer scale', 'biases')),
    'custom': Optimizer('AdamW', 1e-4, 0.05, ('norms', 'layer scale', 'biases')),
    'mask-rcnn': Optimizer('AdamW', 2e-4, 0.05, ('norms', 'layer scale')),
    'retinanet': Optimizer('AdamW', 1e-4, 0.05, ('norms', 'layer scale')),
    'fpn': Optimizer('AdamW', 2e-4, 1e-4),
    'upernet': Optimizer('AdamW', 1e-4, 0.01, ('norms', 'layer scale')),
    'td-hm': Optimizer('Adam', 1e-3, 0.0),
}

SEED = 1


@pytest.fixture(scope='module', params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    cfg = load(request.param)
    yield Network(request.param, cfg, build(cfg, shrink(cfg.model)))


def shrink(model: dict) -> dict:
    """Fewer proposals and images of an odd size, for the sake of speed; the same parameters."""
    model = copy.deepcopy(model)
    if model.type == 'EncoderDecoder':
        model.data_preprocessor.size = (HEIGHT, WIDTH)
    elif model.type == 'MaskRCNN':
        model.train_cfg.rpn_proposal.max_per_img = 20
        model.test_cfg.rpn.max_per_img = 20
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=3)
    elif model.type == 'RetinaNet':
        model.test_cfg.update(score_thr=0.0, max_per_img=3)
    return model


def count_parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_parameters(network):
    name, model = backbone_name(network.recipe), network.model
    if network.recipe in OURS:
        arch = name.removeprefix('scopevit-')
        assert type(model.backbone).__name__ == 'ScopeViT'
        head = 1000 * (ARCHS[arch]['embed_dims'][-1] + 1)
        assert count_parameters(model.backbone) == PARAMETERS[arch] - head
        if method(network.recipe) == 'in1k':
            assert count_parameters(model) == PARAMETERS[arch]
    elif method(network.recipe) == 'in1k':
        assert count_parameters(model) / 1e6 == pytest.approx(PEER_PARAMETERS[name], abs=0.0051)
    else:
        assert type(model.backbone).__name__ != 'ScopeViT'


def test_channels_are_those_of_the_maps(network):
    check_channels(network)


def check_channels(network: Network) -> None:
    model = network.cfg.model
    if 'backbone' not in model:  # timm's whole classifier
        return
    network.model.eval()
    with torch.no_grad():
        maps = network.model.backbone(torch.zeros(1, 3, 64, 128))
    channels = [m.shape[1] for m in maps]
    strides = [(64 // m.shape[2], 128 // m.shape[3]) for m in maps]
    if network.recipe in OURS:
        widths = ARCHS[model.backbone.arch]['embed_dims']
        assert channels == [widths[i] for i in network.model.backbone.out_indices]
    if 'in_channels' in (model.get('neck') or {}):
        assert model.neck.in_channels == channels
        assert strides == [(4, 4), (8, 8), (16, 16), (32, 32)]
    elif 'decode_head' in model:
        assert [channels[i] for i in model.decode_head.in_index] == model.decode_head.in_channels
    else:
        assert (channels, strides) == ([model.head.in_channels], [(32, 32)])
    if 'auxiliary_head' in model:
        assert channels[model.auxiliary_head.in_index] == model.auxiliary_head.in_channels
        assert model.auxiliary_head.in_index == 2


def test_drop_path_rate_is_the_authors(network):
    if network.recipe not in OURS:
        backbone = network.cfg.model.get('backbone', network.cfg.model)
        assert backbone.drop_path_rate == 0.1
        return
    arch = network.cfg.model.backbone.arch
    rate = DROP_PATH_RATES[network.recipe.partition('/')[0]][arch]
    rates = [m.drop_prob for m in network.model.modules() if isinstance(m, DropPath)]
    assert (rates[0], rates[-1]) == (0, pytest.approx(rate))


def test_optimizer_is_the_authors(network):
    if network.recipe not in OURS:  # test_names compares them with ours
        return
    expected = OPTIMIZERS[method(network.recipe)]
    optimizer = build_optim_wrapper(network.model, network.cfg.optim_wrapper).optimizer
    assert type(optimizer) is getattr(torch.optim, expected.type)
    groups = optimizer.param_groups
    assert {(g['lr'], g['betas']) for g in groups} == {(expected.lr, (0.9, 0.999))}
    assert {g['weight_decay'] for g in groups} <= {0.0, expected.weight_decay}
    decays = {id(p): g['weight_decay'] for g in groups for p in g['params']}
    names = dict(network.model.named_parameters())
    assert set(decays) == {id(p) for p in names.values()}
    spared = {id(p) for kind in expected.spared for p in parameters_of_kind(network.model, kind)}
    wrong = [n for n, p in names.items() if (decays[id(p)] == 0) != (id(p) in spared)]
    assert wrong == ([] if expected.weight_decay else list(names))


def test_optimizer_names_no_parameters_of_other_networks(network):
    keys = custom_keys(network.recipe)
    if network.recipe not in OURS:
        keys -= custom_keys(primitive(network.recipe))  # which no peer changes
    names = [name for name, _ in network.model.named_parameters()]
    assert {key for key in keys if not any(key in name for name in names)} == set()


def custom_keys(recipe: str) -> set[str]:
    return set(load(recipe).optim_wrapper.get('paramwise_cfg', {}).get('custom_keys', {}))


# Vectors and tables of other networks that decay would pull to zero without any use.
SPARED_OF_PEERS = (
    'gamma', 'grn', 'layer_scale', 'pos_embed', 'cls_token', 'relative_position_bias_table',
)  # fmt: skip


def test_peers_are_spared_decay_where_scopevit_is(network):
    task = network.recipe.partition('/')[0]
    if network.recipe in OURS or task not in ('classification', 'detection'):
        return
    optimizer = build_optim_wrapper(network.model, network.cfg.optim_wrapper).optimizer
    decays = {id(p): g['weight_decay'] for g in optimizer.param_groups for p in g['params']}
    backbone = getattr(network.model, 'backbone', network.model)
    norms = {id(p) for p in parameters_of_kind(backbone, 'norms')}
    decayed = {n: p for n, p in backbone.named_parameters() if decays[id(p)] == 0.05}
    assert len(decayed) > 20
    assert [n for n in decayed if any(word in n for word in SPARED_OF_PEERS)] == []
    assert [n for n, p in decayed.items() if id(p) in norms] == []
    if task == 'classification':
        assert [n for n, p in decayed.items() if p.ndim < 2] == []


# One step -----------------------------------------------------------------------------------------


LOSSES = {
    'in1k': {'loss'},
    'custom': {'loss'},
    'mask-rcnn': {
        'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'
    },
    'retinanet': {'loss_cls', 'loss_bbox'},
    'fpn': {'decode.loss_ce'},
    'upernet': {'decode.loss_ce', 'aux.loss_ce'},
    'td-hm': {'loss_kpt'},
}  # fmt: skip


def test_one_training_step_reaches_every_weight(network):
    check_training_step(network)


def check_training_step(network: Network) -> None:
    model = network.model
    model.train()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.eval()  # a layer that is skipped gets no gradient
    torch.manual_seed(SEED)  # one that mixes the images of a classifier
    np.random.seed(SEED)
    batch = BATCHES[network.recipe.partition('/')[0]](network)
    data = model.data_preprocessor(batch, training=True)
    if method(network.recipe) == 'in1k':
        scores = torch.stack([sample.gt_score for sample in data['data_samples']])
        assert scores.shape == (2, 1000)
        assert scores.sum(1) == pytest.approx(1)
        assert 0.01 < scores.max() < 0.99  # images and labels are mixed
    losses = model(**data, mode='loss')
    assert {name for name in losses if 'loss' in name} == LOSSES[method(network.recipe)]
    loss, _ = model.parse_losses(losses)
    assert math.isfinite(loss)
    model.zero_grad()
    loss.backward()
    # Frozen ones would stay as they were drawn, unused ones stop a training on several GPUs.
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())
    if network.recipe in OURS:  # peers skip layers in their own ways
        # Vectors may get nothing by construction, as a bias ahead of a batch norm.
        matrices = [(n, p) for n, p in model.backbone.named_parameters() if p.ndim > 1]
        assert [name for name, p in matrices if not p.grad.any()] == []
    model.zero_grad()


def test_one_prediction(network):
    check_prediction(network)


def check_prediction(network: Network) -> None:
    model = network.model
    model.eval()
    batch = BATCHES[network.recipe.partition('/')[0]](network)
    with torch.no_grad():
        data = model.data_preprocessor(batch)
        samples = model(**data, mode='predict')
    # From blue, green, red of 0 to 255 to ImageNet's statistics of red, green, blue.
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    expected = (batch['inputs'][0][:, 40, 30].flip(0) - mean) / std
    assert torch.allclose(data['inputs'][0][:, 40, 30], expected, atol=1e-4)
    assert len(samples) == len(batch['inputs'])
    CHECKS[network.recipe.partition('/')[0]](network, samples[0])


def check_classification(network: Network, sample: DataSample) -> None:
    classes = 10 if method(network.recipe) == 'custom' else 1000
    assert sample.pred_score.shape == (classes,)
    assert sample.pred_score.sum().item() == pytest.approx(1, abs=1e-4)
    assert 0 <= sample.pred_label.item() < classes


def check_detection(network: Network, sample: DetDataSample) -> None:
    found = sample.pred_instances
    assert found.bboxes.shape == (3, 4)
    assert (found.bboxes >= 0).all()
    assert (found.bboxes <= torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert ((found.labels >= 0) & (found.labels < 80)).all()
    assert ('masks' in found) == (method(network.recipe) == 'mask-rcnn')
    if 'masks' in found:
        assert (found.masks.shape, found.masks.dtype) == ((3, HEIGHT, WIDTH), torch.bool)


def check_segmentation(network: Network, sample: SegDataSample) -> None:
    assert sample.pred_sem_seg.data.shape == (1, HEIGHT, WIDTH)
    assert sample.seg_logits.data.shape == (150, HEIGHT, WIDTH)
    assert sample.seg_logits.data.isfinite().all()


def check_pose(network: Network, sample: PoseDataSample) -> None:
    found = sample.pred_instances
    assert found.keypoints.shape == (1, 17, 2)
    assert found.keypoint_scores.shape == (1, 17)
    assert np.isfinite(found.keypoints).all()


CHECKS = {
    'classification': check_classification,
    'detection': check_detection,
    'segmentation': check_segmentation,
    'pose': check_pose,
}


# A network of one's own ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    'primitive, name',
    [
        (
            'detection/mask-rcnn_scopevit-tiny_fpn_1x_coco.py',
            'detection/mask-rcnn_resnet18_fpn_1x_coco.py',
        ),
        (
            'segmentation/fpn_scopevit-tiny_8xb4-80k_ade20k-512x512.py',
            'segmentation/fpn_resnet18_8xb4-80k_ade20k-512x512.py',
        ),
    ],
)
def test_another_backbone_takes_the_place_as_the_page_says(primitive, name, tmp_path):
    text = re.sub("_base_ = '.*'", f"_base_ = '{CONFIGS / primitive}'", snippet('detection'))
    network = own_network(name, text, tmp_path)
    assert type(network.model.backbone).__name__ == 'TIMMBackbone'
    # 11,689,512 with the classifier of 1000 classes.
    assert count_parameters(network.model.backbone) == 11_689_512 - 513 * 1000
    check_channels(network)
    check_training_step(network)
    check_prediction(network)


def test_another_classifier_takes_the_place_as_the_page_says(tmp_path):
    text = snippet('classification').replace('../_base_', str(CONFIGS / '_base_'))
    network = own_network('classification/resnet18_8xb128_in1k.py', text, tmp_path)
    assert count_parameters(network.model) == 11_689_512
    check_training_step(network)
    check_prediction(network)


def snippet(task: str) -> str:
    """The config on the page of a task."""
    page = (CONFIGS / task / 'README.md').read_text()
    (text,) = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    return text


def own_network(name: str, text: str, folder: Path) -> Network:
    path = folder / 'mine.py'
    path.write_text(text)
    cfg = read(path)
    return Network(name, cfg, build(cfg, shrink(cfg.model)))
