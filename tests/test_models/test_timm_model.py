"""ScopeViT as a model of timm. The checks are those timm makes of its own, written anew."""

import subprocess
import sys

import pytest
import timm
import timm.optim
import torch
from golden import authors_weights
from mini import MINI

import scopevit
from scopevit.models import timm_model
from scopevit.models.convert import convert_state_dict
from scopevit.models.timm_model import ScopeViTClassifier

NAMES = ['scopevit_small', 'scopevit_tiny', 'scopevit_xtiny']
WIDTHS = [8, 16, 32, 32]  # of MINI


def mini(**options):
    torch.manual_seed(0)
    return ScopeViTClassifier(MINI, **options)


def images(count=2, channels=3, size=64):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    'code',
    [
        'import timm, scopevit',
        'import sys, scopevit; assert "timm" not in sys.modules; import timm.models',
    ],
)
def test_known_whatever_is_imported_first(code):
    code += '; print(timm.list_models("scopevit*"), timm.is_model("scopevit_tiny"))'
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert run.stdout.strip() == f'{NAMES} True', run.stderr


@pytest.mark.parametrize(
    ('name', 'millions'),
    # As of mmpretrain's classifier, see README.md.
    [('scopevit_xtiny', 5.287), ('scopevit_tiny', 8.007), ('scopevit_small', 18.162)],
)
def test_sizes(name, millions):
    with torch.device('meta'):
        model = timm.create_model(name)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == millions
    cfg = model.default_cfg
    assert (cfg['architecture'], cfg['input_size'], cfg['crop_pct']) == (name, (3, 256, 256), 0.9)
    for layer in (cfg['first_conv'], cfg['classifier']):
        assert f'{layer}.weight' in model.state_dict()
    config = scopevit.get_config(f'{name.replace("_", "-")}_8xb128_in1k')
    mean_and_std = config.data_preprocessor.mean, config.data_preprocessor.std
    assert [[round(255 * v, 2) for v in cfg[k]] for k in ('mean', 'std')] == [
        [round(v, 2) for v in values] for values in mean_and_std
    ]


def test_same_network_as_in_mmpretrain():
    ours = scopevit.get_model('scopevit-xtiny_8xb128_in1k').eval()
    model = timm.create_model('scopevit_xtiny').eval()
    weights = {k.removeprefix('backbone.'): v for k, v in ours.state_dict().items()}
    model.load_state_dict(weights)  # the same names, no more and no less
    with torch.no_grad():
        assert torch.equal(model(images()), ours(images(), mode='tensor'))


@pytest.mark.parametrize('options', [dict(num_classes=42), dict(in_chans=1), dict(in_chans=5)])
def test_every_parameter_gets_a_gradient(options):
    model = mini(**options)
    logits = model(images(channels=options.get('in_chans', 3)))
    assert logits.shape == (2, options.get('num_classes', 1000))
    logits.mean().backward()
    assert [k for k, p in model.named_parameters() if p.grad is None] == []


def test_head():
    model = mini(num_classes=7).eval()
    maps = model.forward_features(images())
    assert maps.shape == (2, 32, 2, 2)
    pooled = model.forward_head(maps, pre_logits=True)
    assert torch.allclose(pooled, maps.mean((2, 3)))
    fc = model.get_classifier()
    assert torch.allclose(model(images()), pooled @ fc.weight.T + fc.bias)

    model.reset_classifier(3)
    assert model.num_classes == 3
    assert model(images()).shape == (2, 3)
    assert 0.01 < model.get_classifier().weight.std() < 0.03  # as the authors begin
    model.reset_classifier(0)
    assert torch.equal(model(images()), pooled)
    model.reset_classifier(0, '')
    assert torch.equal(model(images()), maps)
    without = mini(num_classes=0, global_pool='').eval()
    assert without(images()).shape == maps.shape
    assert mini(num_classes=4, global_pool='catavgmax')(images()).shape == (2, 4)


def test_maps_are_those_of_the_backbone():
    model = mini().eval()
    backbone = scopevit.ScopeViT(MINI).eval()
    names = backbone.state_dict().keys()
    backbone.load_state_dict({k: v for k, v in model.state_dict().items() if k in names})
    expected = backbone(images())
    last, maps = model.forward_intermediates(images())
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert torch.equal(last, expected[-1])
    last, maps = model.forward_intermediates(images(), indices=[0, 2], stop_early=True)
    assert torch.equal(maps[0], expected[0])
    assert torch.equal(last, expected[2])
    (only,) = model.forward_intermediates(images(), indices=1, intermediates_only=True)
    assert torch.equal(only, expected[3])
    with pytest.raises(ValueError, match="'NCHW', not 'NLC'"):
        model.forward_intermediates(images(), output_fmt='NLC')
    assert [info['num_chs'] for info in model.feature_info] == WIDTHS
    assert model.prune_intermediate_layers([0, 1]) == [0, 1]
    assert not any(k.startswith(('stages.2', 'stages.3', 'head')) for k in model.state_dict())


@pytest.mark.parametrize('feature_cls', ['getter', 'fx'])
def test_features_only(feature_cls):
    model = timm.create_model(
        'scopevit_xtiny', features_only=True, out_indices=(1, 3), feature_cls=feature_cls
    ).eval()
    assert model.feature_info.reduction() == [8, 32]
    maps = model(images(1))
    widths = model.feature_info.channels()
    assert [tuple(x.shape) for x in maps] == [(1, widths[0], 8, 8), (1, widths[1], 2, 2)]


def test_misspelt_argument():
    with pytest.raises(TypeError, match="unexpected keyword argument 'drop_paht_rate'"):
        timm.create_model('scopevit_xtiny', drop_paht_rate=0.1)


def test_images_that_are_too_small():
    with pytest.raises(ValueError, match='at least 32x32 pixels, but got 16x16'):
        mini()(images(size=16))


def test_checkpointing_changes_memory_alone():
    model = mini()
    model.eval()
    plain = model(images())
    model.set_grad_checkpointing()
    assert all(block.with_cp for stage in model.stages for block in stage.blocks)
    assert torch.allclose(model(images()), plain)
    model.set_grad_checkpointing(False)
    assert not any(block.with_cp for stage in model.stages for block in stage.blocks)


def test_groups_for_layer_decay():
    model = mini()
    groups = timm.models.group_parameters(model, model.group_matcher())
    # The stem, MINI's 1 + 1 + 2 + 1 blocks, and the classifier. The other patch embeddings go with
    # the block behind them, norms of stages with the one before.
    firsts = [sum(name.endswith('mssa.norm1.weight') for name in g) for g in groups.values()]
    assert firsts == [0, 1, 1, 1, 1, 1, 0]
    coarse = timm.models.group_parameters(model, model.group_matcher(coarse=True))
    assert len(coarse) == 1 + 4 + 1  # stem, stages, head
    assert sum(map(len, coarse.values())) == len(list(model.parameters()))
    optimizer = timm.optim.create_optimizer_v2(model, 'adamw', lr=1.0, layer_decay=0.5)
    scales = {id(p): group['lr_scale'] for group in optimizer.param_groups for p in group['params']}
    stem, head = model.stages[0].patch_embed[0].weight, model.head.fc.weight
    assert scales[id(head)] == 1
    assert scales[id(stem)] == 0.5**6


@pytest.mark.parametrize('naming', ['timm', 'mm', 'authors'])
def test_weights_of_any_name(naming, tmp_path):
    theirs = authors_weights('xtiny')
    ours, _ = convert_state_dict(theirs)
    timms = {k.removeprefix('backbone.'): v for k, v in ours.items()}
    path = tmp_path / 'weights.pth'
    torch.save({'state_dict': dict(timm=timms, mm=ours, authors=theirs)[naming]}, path)
    overlay = dict(file=str(path))
    model = timm.create_model('scopevit_xtiny', pretrained=True, pretrained_cfg_overlay=overlay)
    assert all(torch.equal(v, timms[k]) for k, v in model.state_dict().items())
    grey = timm.create_model(
        'scopevit_xtiny', pretrained=True, pretrained_cfg_overlay=overlay, num_classes=5, in_chans=1
    )
    first = 'stages.0.patch_embed.0.weight'
    assert torch.allclose(grey.state_dict()[first], timms[first].sum(1, keepdim=True))
    assert grey.head.fc.weight.shape[0] == 5


def test_no_weights_are_public():
    with pytest.raises(RuntimeError, match='No pretrained weights exist for scopevit_tiny'):
        timm.create_model('scopevit_tiny', pretrained=True)


def test_inference_form():
    model = mini().eval()
    expected = model(images())
    model.switch_to_deploy()
    assert torch.allclose(model(images()), expected, atol=1e-5)


def test_names_are_exported():
    assert set(NAMES) < set(timm_model.__all__)
