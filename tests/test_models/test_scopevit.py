import copy
import math
import pickle
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from mini import MINI
from mmcv.cnn.bricks import DropPath
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from scopevit import ScopeViT
from scopevit.models.groups import dilated_spans
from scopevit.models.position_bias import RelativePositionBias
from scopevit.models.scopevit import GlobalScaleDilatedAttention, MultiScaleSelfAttention


def mini(**kwargs):
    torch.manual_seed(0)
    return ScopeViT(MINI, layer_scale_init_value=0.5, **kwargs)


# Parameters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'arch, alias, params', [('xtiny', 'xt', 5.287), ('tiny', 't', 8.007), ('small', 's', 18.162)]
)
def test_parameters_to_the_digit(arch, alias, params):
    model = ScopeViT(arch)
    head = nn.Linear(model.embed_dims[-1], 1000)
    total = sum(p.numel() for m in (model, head) for p in m.parameters())
    assert round(total / 1e6, 3) == params
    names = {k: v.shape for k, v in model.state_dict().items()}
    assert {k: v.shape for k, v in ScopeViT(alias).state_dict().items()} == names


def test_initialisation_is_the_authors():
    model = ScopeViT('small')
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            # Cut at two units, not two deviations: the deviation stays 0.02.
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
        elif isinstance(module, nn.Conv2d):
            k = module.kernel_size[0]
            std = math.sqrt(2 / (k * k * module.out_channels / module.groups))
            assert module.weight.std().item() == pytest.approx(std, rel=0.15), name
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
            assert module.bias.abs().max() == 0, name
    gammas = [p for name, p in model.named_parameters() if 'gamma' in name]
    assert len(gammas) == 4 * 7
    assert all(torch.all(gamma == 1e-6) for gamma in gammas)


def test_drop_path_rises_linearly_over_the_blocks():
    rates = [m.drop_prob for m in ScopeViT('xtiny', drop_path_rate=0.7).modules()
             if isinstance(m, DropPath)]  # fmt: skip
    expected = [0.1 * block for block in range(8) for _ in ('mssa', 'gsda')]
    assert rates == pytest.approx(expected)


# Shapes and sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'size', [(32, 32), (33, 47), (64, 250), (200, 336), (224, 224), (101, 157)]
)
def test_every_size_gives_a_pyramid(size):
    with torch.no_grad():
        outs = ScopeViT('xtiny').eval()(torch.randn(1, 3, *size))
    assert isinstance(outs, tuple) and len(outs) == 4
    for out, dims, stride in zip(outs, (32, 64, 128, 256), (4, 8, 16, 32)):
        assert out.shape == (1, dims, *(math.ceil(side / stride) for side in size))
        assert out.isfinite().all()


@pytest.mark.parametrize('size', [(31, 64), (64, 8)])
def test_too_small_is_said_clearly(size):
    with pytest.raises(ValueError, match=rf'at least 32x32 pixels, but got {size[0]}x{size[1]}'):
        mini()(torch.randn(1, 3, *size))


def test_a_batch_is_as_good_as_one_by_one():
    model, x = mini().eval().double(), torch.randn(3, 3, 72, 100, dtype=torch.float64)
    for i, together in enumerate(model(x)):
        alone = torch.cat([model(image[None])[i] for image in x])
        torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(
    'out_indices, strides',
    [(3, (32,)), (-1, (32,)), ((1, 3), (8, 32)), ([0, 1], (4, 8)), ((-4, -1), (4, 32))],
)
def test_out_indices(out_indices, strides):
    model = mini(out_indices=out_indices)
    outs = model(torch.randn(2, 3, 64, 64))
    assert [64 // out.shape[-1] for out in outs] == list(strides)
    sum(out.sum() for out in outs).backward()
    assert all(p.grad is not None for p in model.parameters())  # nothing built in vain


# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg', 'mmpose'])
def test_one_registration_serves_every_library(scope):
    __import__(f'{scope}.models')
    registry = sys.modules[f'{scope}.registry'].MODELS
    assert type(registry.build(dict(type='ScopeViT', arch='xtiny'))) is ScopeViT
    assert MODELS.get('ScopeViT') is ScopeViT


@pytest.mark.parametrize(
    'kwargs, error, words',
    [
        (dict(arch='huge'), ValueError, 'xtiny, tiny, small, xt, t, s'),
        (dict(arch=3), TypeError, 'arch'),
        (dict(arch=dict(depths=(1, 1, 1, 1))), TypeError, 'missing.*embed_dims'),
        (dict(arch=dict(MINI, widths=3)), TypeError, "unknown: \\['widths'\\]"),
        (dict(arch=dict(MINI, depths=(1, 1, 1))), ValueError, "'depths'.*4 entries"),
        (dict(arch=dict(MINI, depths=(1, 1, 1, 0))), ValueError, "'depths'.*>= 1"),
        (dict(arch=dict(MINI, depths=(1, 1, 2**63, 1))), ValueError, "'depths'.*>= 1 and < 1000"),
        (dict(arch=dict(MINI, embed_dims=(9, 16, 32, 32))), ValueError, 'multiples'),
        (dict(arch=dict(MINI, head_splits=((2, 1, 0),) * 4)), ValueError, 'head_splits'),
        (dict(arch=dict(MINI, grid_size=0)), ValueError, 'grid_size'),
        (dict(in_channels=0), ValueError, 'in_channels must be >= 1'),
        (dict(in_channels='3'), TypeError, 'in_channels'),
        (dict(out_indices=(0, 4)), ValueError, 'from 0 to 3'),
        (dict(out_indices=(1, 0)), ValueError, 'ascending'),
        (dict(out_indices=()), ValueError, 'out_indices'),
        (dict(out_indices=None), TypeError, 'out_indices must be ascending'),
        (dict(out_indices=1.5), TypeError, 'out_indices must be ascending'),
        (dict(out_indices=[True]), TypeError, 'out_indices must be ascending'),
        (dict(drop_path_rate=1.0), ValueError, 'drop_path_rate must be >= 0 and < 1'),
        (dict(drop_path_rate=-0.1), ValueError, 'drop_path_rate'),
        (dict(mlp_ratio=0), ValueError, 'mlp_ratio must be > 0'),
        (dict(norm_cfg=dict(type='LN')), ValueError, 'BN, SyncBN, GN'),
        (dict(norm_cfg='BN'), TypeError, 'norm_cfg must be a dict'),
        (dict(norm_cfg=dict(type='GN')), ValueError, 'num_groups'),
        (dict(norm_cfg=dict(type='GN', num_groups=7)), ValueError, 'divides all of .16, 32, 64'),
        (dict(arch=dict(MINI, depths=3)), ValueError, "'depths'.*4 entries"),
        (dict(arch=dict(MINI, head_splits=((1.0, 1, 0),) * 4)), ValueError, 'head_splits'),
        (dict(layer_scale_init_value=-1), ValueError, 'layer_scale_init_value'),
        (dict(frozen_stages=5), ValueError, 'frozen_stages must be >= -1 and < 5'),
        (dict(frozen_stages=True), TypeError, 'frozen_stages'),
        (dict(norm_eval='yes'), TypeError, 'norm_eval'),
        (dict(with_cp=1), TypeError, 'with_cp'),
        (dict(drop_path=0.1), TypeError, "unexpected keyword argument 'drop_path'"),
    ],
)
def test_wrong_arguments_are_errors(kwargs, error, words):
    with pytest.raises(error, match=words):
        ScopeViT(**kwargs)


def test_sizes_are_not_shared():
    ScopeViT('tiny').arch['depths'] = (9, 9, 9, 9)
    assert ScopeViT('tiny').arch['depths'] == (2, 2, 5, 2)


def test_arguments_are_not_changed():
    arch, norm_cfg = copy.deepcopy(MINI), dict(type='GN', num_groups=4)
    model = ScopeViT(arch, norm_cfg=norm_cfg)
    assert arch == MINI and norm_cfg == dict(type='GN', num_groups=4)
    assert isinstance(model.stages[0].norm, nn.GroupNorm)
    assert not any(isinstance(m, _BatchNorm) for m in model.modules())
    assert model(torch.randn(1, 3, 40, 40))[-1].shape == (1, 32, 2, 2)


def test_norm_mlp_ratio_in_channels_and_layer_scale_reach_the_layers():
    model = ScopeViT(
        MINI, in_channels=5, mlp_ratio=2, norm_cfg=dict(type='SyncBN'), layer_scale_init_value=0
    )
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in model.modules()) == 5 + 4 + 3 * 5
    assert model.stages[0].patch_embed[0].in_channels == 5
    assert model.stages[3].blocks[0].gsda.mlp.fc1.out_features == 64
    assert not any('gamma' in name for name, _ in model.named_parameters())


# Training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 4])
def test_frozen_stages(frozen_stages):
    model = mini(frozen_stages=frozen_stages)
    assert model.train() is model
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad] or
                                [torch.zeros(1, requires_grad=True)], lr=1.0)  # fmt: skip
    out = sum(out.square().mean() for out in model(torch.randn(2, 3, 64, 64)))
    if out.requires_grad:
        out.backward()
    optimizer.step()
    for i, stage in enumerate(model.stages):
        frozen = i < frozen_stages
        assert stage.training is not frozen
        prefix = f'stages.{i}.'
        changed = {
            name
            for name, value in model.state_dict().items()
            if name.startswith(prefix) and not torch.equal(value, before[name])
        }
        if frozen:
            assert not changed
        else:
            assert f'{prefix}norm.running_mean' in changed
            assert f'{prefix}blocks.0.gsda.attn.qkv.weight' in changed


def test_norm_eval_keeps_the_statistics():
    model = mini(norm_eval=True)
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    assert norms and not any(m.training for m in norms)
    assert model.training and model.stages[0].blocks[0].gsda.attn.rel_pos.drop.training
    model(torch.randn(2, 3, 64, 64))
    assert all(m.running_mean.abs().max() == 0 and m.num_batches_tracked == 0 for m in norms)
    assert norms[0].weight.requires_grad


def test_every_parameter_gets_a_gradient():
    model = mini(drop_path_rate=0.0).double()
    x = torch.randn(2, 3, 72, 100, dtype=torch.float64)
    sum((out**3).mean() for out in model(x)).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0, name


def test_checkpointing_changes_nothing_but_memory():
    models = [
        mini(with_cp=with_cp, drop_path_rate=0.3).double().train() for with_cp in (0 > 1, 1 > 0)
    ]
    x = torch.randn(2, 3, 72, 100, dtype=torch.float64)
    saved = []
    for model in models:
        torch.manual_seed(1)  # the same drop path and dropout
        numel = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, numel=numel: numel.append(t.numel()) or t, lambda t: t
        ):
            out = sum((out**2).mean() for out in model(x))
        out.backward()
        saved.append(sum(numel))
    for (name, p), (_, q) in zip(*(m.named_parameters() for m in models)):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-14, msg=name)
    for (name, p), (_, q) in zip(*(m.named_buffers() for m in models)):
        assert torch.equal(p, q), name  # running statistics are not counted twice
    assert saved[1] < saved[0] / 3


def test_checkpointing_takes_a_second_backward_pass():
    model = mini(with_cp=True, drop_path_rate=0.3).double().train()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    loss = sum((out**2).mean() for out in model(x))
    loss.backward(retain_graph=True)
    first = [p.grad.clone() for p in model.parameters()]
    loss.backward()
    for p, grad in zip(model.parameters(), first):
        torch.testing.assert_close(p.grad, 2 * grad)
    assert {m.num_batches_tracked.item() for m in model.modules() if isinstance(m, _BatchNorm)} == {
        1
    }


def test_copies_and_pickles():
    model, x = mini().eval(), torch.randn(1, 3, 40, 56)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(torch.equal(a, b) for a, b in zip(model(x), twin(x)))


def test_bfloat16_autocast_stays_near():
    model, x = mini().eval(), torch.randn(2, 3, 72, 100)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        half = model(x)[-1].float()
    with torch.no_grad():
        full = model(x)[-1]
    assert (half - full).abs().max() < 0.05 * full.abs().max()


# Attention ----------------------------------------------------------------------------------------


def plain_attention(q, k, v, bias=0.0):
    """(heads, N, D) each; softmax written out."""
    return ((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v


def split_heads(x, heads):
    return x.reshape(len(x), heads, -1).transpose(0, 1)  # (N, C) -> (heads, N, C / heads)


def gsda_group_by_group(attn, x):
    """The definition: tokens i, i + dy, ... and j, j + dx, ... attend to one another."""
    height, width = x.shape[:2]
    heads, grid = attn.num_heads, attn.grid_size
    dy, dx = math.ceil(height / grid), math.ceil(width / grid)
    out = torch.zeros_like(x)

    def bias(d, e):
        offset = torch.tensor([math.copysign(math.log(1 + abs(t)), t) for t in (d, e)]).to(x)
        hidden = F.linear(offset, attn.rel_pos.fc1.weight, attn.rel_pos.fc1.bias).relu()
        return F.linear(hidden, attn.rel_pos.fc2.weight, attn.rel_pos.fc2.bias)

    table = {(d, e): bias(d, e) for d in range(1 - grid, grid) for e in range(1 - grid, grid)}
    for i in range(dy):
        for j in range(dx):
            group = x[i::dy, j::dx]
            slots = [(a, b) for a in range(group.shape[0]) for b in range(group.shape[1])]
            rows = [[table[a - c, b - d] for c, d in slots] for a, b in slots]
            biases = torch.stack([torch.stack(row) for row in rows]).permute(2, 0, 1)
            tokens = group.reshape(len(slots), -1)
            q, k, v = (split_heads(t, heads) for t in (tokens @ attn.qkv.weight.T).chunk(3, -1))
            mixed = plain_attention(q, k, v, biases).transpose(0, 1).reshape(group.shape)
            out[i::dy, j::dx] = attn.proj(mixed)
    return out


@pytest.mark.parametrize(
    'size', [(8, 8), (3, 5), (16, 8), (9, 8), (8, 11), (17, 23), (25, 10), (1, 33), (10, 27)]
)
def test_gsda_equals_its_definition(size):
    torch.manual_seed(0)
    attn = GlobalScaleDilatedAttention(8, 2, 8).double().eval()
    nn.init.normal_(attn.rel_pos.fc2.weight, std=0.5)
    x = torch.randn(2, *size, 8, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([gsda_group_by_group(attn, image) for image in x])
    actual = attn(x)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)
    probe = torch.randn_like(actual)
    for of_actual, of_expected in zip(
        torch.autograd.grad((actual * probe).sum(), [x, *attn.parameters()]),
        torch.autograd.grad((expected * probe).sum(), [x, *attn.parameters()]),
    ):
        torch.testing.assert_close(of_actual, of_expected, rtol=1e-8, atol=1e-9)


def test_gsda_has_exact_gradients_with_its_dropout():
    torch.manual_seed(0)
    attn = GlobalScaleDilatedAttention(4, 2, 2).double().train()
    x = torch.randn(1, 3, 5, 4, dtype=torch.float64, requires_grad=True)

    def with_one_mask(x):
        torch.manual_seed(1)
        return attn(x)

    assert torch.autograd.gradcheck(with_one_mask, (x,))
    assert not torch.equal(with_one_mask(x), attn.eval()(x))


@pytest.mark.parametrize('stride, size', [(1, (6, 7)), (2, (9, 8)), (4, (16, 21)), (4, (8, 8))])
def test_mssa_equals_its_definition(stride, size):
    torch.manual_seed(0)
    attn = MultiScaleSelfAttention(16, 4, stride, (2, 1, 1), dict(type='BN')).double().eval()
    x = torch.randn(2, *size, 16, dtype=torch.float64)
    g = attn.position_encoding(x.permute(0, 3, 1, 2))
    for image, tokens in zip(g, attn(x)):
        q = split_heads(image.flatten(1).T @ attn.query.weight.T, 4)
        parts, channel = [], 0
        for kernel_size, padding, dims, conv in zip(
            (7, 5, 3), {1: (3, 2, 1), 2: (3, 2, 1), 4: (4, 3, 2)}[stride], (8, 4, 4), attn.scales
        ):
            assert conv.weight.shape == (dims, 1, kernel_size, kernel_size)
            for c in range(dims):
                plane = image[None, None, channel]
                parts.append(F.conv2d(plane, conv.weight[c : c + 1], None, stride, padding)[0, 0])
                channel += 1
        kv = torch.stack(parts).flatten(1).T @ attn.key_value.weight.T
        k, v = (split_heads(t, 4) for t in kv.chunk(2, -1))
        expected = attn.proj(plain_attention(q, k, v).transpose(0, 1).reshape(-1, 16))
        torch.testing.assert_close(tokens.reshape(-1, 16), expected, rtol=1e-9, atol=1e-10)


def test_a_token_reaches_its_group_and_no_other():
    attn = GlobalScaleDilatedAttention(8, 2, 8).eval()
    x = torch.randn(1, 17, 23, 8)
    changed = x.clone()
    changed[0, 4, 7] += 1  # dilations 3 and 3: group (1, 1)
    moved = (attn(changed) - attn(x)).abs().amax(-1)[0] > 0
    expected = torch.zeros(17, 23, dtype=torch.bool)
    expected[1::3, 1::3] = True
    assert torch.equal(moved, expected)


@pytest.mark.parametrize(
    'size, dilation, counts',
    [(64, 8, [8] * 8), (8, 1, [8]), (5, 1, [5]), (9, 2, [5, 4]), (25, 4, [7, 6, 6, 6])],
)
def test_dilated_spans(size, dilation, counts):
    found, spans = dilated_spans(size, 8)
    assert found == dilation
    by_group = {i: slots for kind, slots in spans for i in range(kind.start, kind.stop)}
    assert [by_group[i] for i in range(dilation)] == counts
    assert counts == [len(range(i, size, dilation)) for i in range(dilation)]


def test_bias_depends_on_the_offset_alone():
    rel_pos = RelativePositionBias(2, 8).eval()
    (bias,) = rel_pos([(3, 4)], torch.float32)
    assert bias.shape == (2, 12, 12)
    bias = bias.reshape(2, 3, 4, 3, 4)
    torch.testing.assert_close(bias[:, 2, 1, 0, 2], bias[:, 2, 2, 0, 3])
    assert not torch.allclose(bias[:, 2, 1, 0, 2], bias[:, 0, 2, 2, 1])


class LargestTensor(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // 4)
        return out


def test_no_attention_matrix_is_ever_made():
    x = torch.randn(1, 3, 384, 512, requires_grad=True)
    tokens, keys, heads = 96 * 128, 25 * 33, 2
    with LargestTensor() as largest:
        ScopeViT('xtiny', out_indices=0)(x)[0].sum().backward()
    # The widest activation is the 4 C channels of a layer; GSDA's logits are 64 a token and head.
    assert largest.numel <= tokens * 128
    assert largest.numel < tokens * keys * heads / 10


@pytest.mark.parametrize(
    'code',
    [
        'sum(out.sum() for out in ScopeViT("tiny")(torch.randn(8, 3, 256, 256))).backward()',
        'ScopeViT("tiny").eval().requires_grad_(False)(torch.randn(1, 3, 800, 1333))',
    ],
    ids=['training step', 'large image'],
)
def test_fits_in_6_gb(code):
    script = (
        f'import resource, torch; from scopevit import ScopeViT; {code}; '
        'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 6e9
