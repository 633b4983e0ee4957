"""The form for inference: equal outputs, its weights, what it refuses, and its OpenMMLab users."""

import copy
import pickle

import pytest
import torch
from mini import MINI, assert_near, outputs
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from scopevit import ScopeViT


def trained(**kwargs):
    """A small network in eval mode whose norms, scales and biases are far from their start."""
    torch.manual_seed(0)
    model = ScopeViT(MINI, **{'layer_scale_init_value': 0.5, **kwargs}).double()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith('running_var'):
                value.uniform_(0.5, 2)
            elif value.ndim == 1:
                value.add_(torch.randn_like(value), alpha=0.3)
    return model.eval()


def deployed(model):
    model = copy.deepcopy(model)
    model.switch_to_deploy()
    return model


@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        dict(norm_cfg=dict(type='SyncBN')),
        dict(norm_cfg=dict(type='BN', affine=False, eps=1e-3)),
        dict(norm_cfg=dict(type='BN', track_running_stats=False)),
        dict(norm_cfg=dict(type='GN', num_groups=4)),
        dict(layer_scale_init_value=0.0),
        dict(frozen_stages=2, norm_eval=True, with_cp=True),
        dict(out_indices=(1, 3)),
    ],
    ids=lambda kwargs: '-'.join(kwargs) or 'default',
)
def test_outputs_stay_the_same(kwargs):
    model = trained(**kwargs)
    twin = deployed(model)
    for size in ((64, 64), (72, 100), (33, 47)):
        x = torch.randn(2, 3, *size, dtype=torch.float64)
        assert_near(outputs(twin, x), outputs(model, x), 1e-12)
    x = x.float()
    assert_near(outputs(twin.float(), x), outputs(model.float(), x), 1e-5)


def test_batch_norms_are_gone_and_all_else_stays():
    before, model = trained(), deployed(trained())
    assert sum(isinstance(m, _BatchNorm) for m in model.modules()) == 4  # those of the stages
    assert not any(p.requires_grad for p in model.parameters())
    old, new = before.state_dict(), model.state_dict()
    assert new['stages.0.blocks.0.mssa.attn.position_encoding.expand.bias'].shape == (32,)
    assert new['stages.0.patch_embed.0.weight'].shape == old['stages.0.patch_embed.0.weight'].shape
    # 5 + 3 * 5 norms of 5 tensors are gone, and 3 * 5 convolutions have got a bias.
    assert len(old) - len(new) == 5 * (5 + 3 * 5) - 3 * 5
    kept = [name for name in new if 'gamma' in name or 'rel_pos' in name or '.norm.' in name]
    assert len(kept) == 5 * 4 + 5 * 4 + 4 * 5
    assert all(torch.equal(new[name], old[name]) for name in kept)


def test_group_norms_and_untracked_batch_norms_stay():
    for norm_cfg, kind in (
        (dict(type='GN', num_groups=4), nn.GroupNorm),
        (dict(type='BN', track_running_stats=False), nn.BatchNorm2d),
    ):
        model = trained(norm_cfg=norm_cfg)
        norms = [
            sum(isinstance(m, kind) for m in net.modules()) for net in (model, deployed(model))
        ]
        assert norms == [5 + 4 + 3 * 5] * 2


def test_weights_load_again():
    first, second = deployed(trained()), ScopeViT(MINI, deploy=True).double()
    assert second.deploy and not any(module.training for module in second.modules())
    assert str(second.load_state_dict(first.state_dict())) == '<All keys matched successfully>'
    x = torch.randn(1, 3, 72, 100, dtype=torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(outputs(first, x), outputs(second, x)))


@pytest.mark.parametrize('load', [nn.Module.load_state_dict, load_state_dict])
def test_weights_of_the_other_form_are_refused(load):
    ordinary, folded = trained(), deployed(trained())
    with pytest.raises(RuntimeError, match='build the backbone with deploy=True'):
        load(nn.Sequential(ordinary), nn.Sequential(folded).state_dict())
    with pytest.raises(RuntimeError, match=r'deploy=False and call switch_to_deploy\(\) after'):
        load(nn.Sequential(folded), nn.Sequential(ordinary).state_dict())


def test_training_mode_is_refused():
    model = ScopeViT(MINI)
    with pytest.raises(RuntimeError, match=r'call eval\(\) before'):
        model.switch_to_deploy()
    model.eval().stages[1].norm.train()
    with pytest.raises(RuntimeError, match=r'call eval\(\) before'):
        model.switch_to_deploy()
    assert not model.deploy and 'stages.0.patch_embed.1.weight' in model.state_dict()


def test_training_the_result_is_refused():
    model = deployed(trained())
    with pytest.raises(RuntimeError, match='cannot be trained; train one with deploy=False'):
        model.train()
    with pytest.raises(RuntimeError, match='cannot be trained'):
        nn.Sequential(model).train()
    assert model.eval() is model and not any(module.training for module in model.modules())


def test_a_second_call_changes_nothing():
    model = deployed(trained())
    before = copy.deepcopy(model.state_dict())
    model.switch_to_deploy()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_copies_pickles_and_types():
    model = deployed(trained())
    x = torch.randn(1, 3, 40, 56, dtype=torch.float64)
    expected = outputs(model, x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(torch.equal(a, b) for a, b in zip(outputs(twin, x), expected))
    single = outputs(model.float(), x.float())
    assert all(out.dtype == torch.float32 for out in single)
    assert_near(single, expected, 1e-5)


def test_the_gradient_of_the_image_stays():
    model = trained()
    x = torch.randn(1, 3, 72, 100, dtype=torch.float64, requires_grad=True)
    gradients = [
        torch.autograd.grad(sum((out**2).mean() for out in net(x)), x)[0]
        for net in (model, deployed(model))
    ]
    assert_near(gradients[:1], gradients[1:], 1e-10)


def test_in_a_classifier():
    from mmpretrain.models import ImageClassifier

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ImageClassifier(
            backbone=dict(type='ScopeViT', arch=MINI, out_indices=3),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=32),
        ).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x, mode='tensor')
        model.backbone.switch_to_deploy()
        torch.testing.assert_close(model(x, mode='tensor'), expected, rtol=1e-4, atol=1e-6)


def test_through_the_switch_of_mmpose():
    __import__('mmpose.models')
    with DefaultScope.overwrite_default_scope('mmpose'):
        model = MODELS.build(
            dict(
                type='mmpose.TopdownPoseEstimator',
                backbone=dict(type='ScopeViT', arch=MINI, out_indices=3),
                head=dict(
                    type='mmpose.HeatmapHead',
                    in_channels=32,
                    out_channels=4,
                    loss=dict(type='mmpose.KeypointMSELoss'),
                ),
            )
        ).eval()
    model.switch_to_deploy()
    assert model.backbone.deploy
