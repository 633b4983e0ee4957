"""What a CPU gets: linear layers as 1x1 convolutions, and large maps in parts; and a GPU."""

import copy

import pytest
import torch
from mini import MINI, assert_near
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from scopevit import ScopeViT
from scopevit.benchmark.memory import PeakMemory
from scopevit.models import cpu
from scopevit.models import scopevit as network
from scopevit.models.cpu import TokenLinear
from scopevit.models.scopevit import GlobalScaleDilatedAttention, Mlp


def mini(**kwargs):
    torch.manual_seed(0)
    model = ScopeViT(MINI, **{'layer_scale_init_value': 0.5, **kwargs})
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean)
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def gradients(model, x):
    model.zero_grad()
    x = x.clone().requires_grad_()
    outs = model(x)
    sum((out**3).mean() for out in outs).backward()
    return [*outs, x.grad, *(p.grad.clone() for p in model.parameters())]


# Linear layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize('shape', [(2, 3, 5, 6), (4, 5, 6), (1, 1, 1, 6), (2, 2, 3, 3, 5, 6)])
@pytest.mark.parametrize('bias', [True, False])
def test_token_linear_is_linear(shape, bias):
    torch.manual_seed(0)
    layer = TokenLinear(6, 4, bias=bias)
    plain = nn.Linear(6, 4, bias=bias)
    plain.load_state_dict(layer.state_dict())
    results = []
    for linear in (layer, plain):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        out = linear(x)
        (out**2).sum().backward()
        results.append([out, x.grad, *(p.grad for p in linear.parameters())])
    assert results[0][0].shape == (*shape[:-1], 4)
    assert_near(*results, 1e-6)
    assert_near([layer.double()(x.double())], [plain.double()(x.double())], 1e-14)


@pytest.mark.parametrize('threads', [1, 2])
def test_a_cpu_makes_a_linear_layer_by_onednn(threads):
    layer, x = TokenLinear(16, 32), torch.randn(2, 8, 8, 16)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad(), torch.profiler.profile() as prof:
            layer(x)
    finally:
        torch.set_num_threads(before)
    names = {event.key for event in prof.key_averages()}
    assert 'aten::mkldnn_convolution' in names
    assert not names & {'aten::addmm', 'aten::_slow_conv2d_forward', 'aten::clone'}


def test_half_precision_stays_a_matrix_product():
    layer, x = TokenLinear(16, 32), torch.randn(2, 8, 8, 16)
    with torch.autocast('cpu', torch.bfloat16), torch.profiler.profile() as prof:
        assert layer(x).dtype == torch.bfloat16
    assert 'aten::convolution' not in {event.key for event in prof.key_averages()}


# Parts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize('numel', [2**9, 5000, 2**14])
@pytest.mark.parametrize('shape', [(1, 3, 72, 104), (3, 3, 64, 64), (2, 3, 33, 47)])
@pytest.mark.parametrize('deploy', [False, True], ids=['trained', 'deployed'])
@torch.no_grad()
def test_parts_change_nothing(numel, shape, deploy, monkeypatch):
    model, x = mini().eval(), torch.randn(shape)
    if deploy:
        model.switch_to_deploy()
    expected = model(x)
    monkeypatch.setattr(cpu, 'PART_NUMEL', numel)
    assert_near(model(x), expected)


@pytest.mark.parametrize('with_cp', [False, True])
def test_parts_leave_gradients_and_statistics(with_cp, monkeypatch):
    model = mini(with_cp=with_cp).double().train()
    twin = copy.deepcopy(model)
    x = torch.randn(2, 3, 72, 104, dtype=torch.float64)
    expected = gradients(model, x)
    monkeypatch.setattr(cpu, 'PART_NUMEL', 2**10)
    assert_near(gradients(twin, x), expected, 1e-9)
    for a, b in zip(twin.buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('norm_cfg', [dict(type='BN'), dict(type='GN', num_groups=2)])
@torch.no_grad()
def test_norms_that_see_the_whole_map_still_do(norm_cfg, monkeypatch):
    """Batch norm in training mode without gradients, and group norm in any mode."""
    model = mini(norm_cfg=norm_cfg).train(norm_cfg['type'] == 'BN')
    twin, x = copy.deepcopy(model), torch.randn(2, 3, 64, 64)
    expected = model(x)
    monkeypatch.setattr(cpu, 'PART_NUMEL', 2**9)
    assert_near(twin(x), expected)
    for a, b in zip(twin.buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_the_hidden_maps_are_never_whole(monkeypatch):
    stage, x = mini().eval().stages[0], torch.randn(1, 3, 512, 512)
    x = x.contiguous(memory_format=torch.channels_last)
    sizes = []
    for numel in (2**20, 2**16):
        monkeypatch.setattr(cpu, 'PART_NUMEL', numel)
        with PeakMemory() as memory:
            stage(x)
        sizes.append(memory.largest_bytes)
    # Whole: 128x128 tokens of 32 numbers; in parts, the stem's 256x256 of 4 are the largest.
    assert sizes == [4 * 128 * 128 * 32, 4 * 256 * 256 * 4]


@torch.no_grad()
def test_halos_are_counted_at_both_ends(monkeypatch):
    """Each strip of the position encoding computes one more row where it has a neighbour."""
    model, rows = mini().eval(), []
    encoding = model.stages[0].blocks[0].mssa.attn.position_encoding
    encoding.depthwise.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[2]))
    monkeypatch.setattr(cpu, 'PART_NUMEL', 6 * 16 * 32)  # rows of 16 tokens, 32 channels
    model(torch.randn(1, 3, 64, 64))
    assert rows == [7, 8, 5]  # of 6, 6 and 4


@torch.no_grad()
def test_a_graph_of_unknown_sizes_has_no_parts(monkeypatch):
    monkeypatch.setattr(cpu, 'PART_NUMEL', 64)
    mlp, calls = Mlp(8, 32), []

    def backend(graph, inputs):
        calls.append(sum('gelu' in str(node.target) for node in graph.graph.nodes))
        return graph

    torch.compiler.reset()
    x = torch.randn(2, 6, 5, 8)
    net = torch.compile(mlp, dynamic=True, fullgraph=True, backend=backend)
    assert_near([net(x)], [mlp(x)])
    assert calls == [1]
    torch.compiler.reset()
    net = torch.compile(mlp, dynamic=False, fullgraph=True, backend=backend)
    assert_near([net(x)], [mlp(x)])
    assert calls == [1, 12]  # a row of 5 tokens has 160 numbers
    torch.compiler.reset()


@torch.no_grad()
def test_channels_last_takes_the_deployed_form():
    model, x = mini().eval(), torch.randn(2, 3, 64, 64)
    expected = model(x)
    model.switch_to_deploy()
    model.to(memory_format=torch.channels_last)
    assert_near(model(x.contiguous(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_no_other_device_attends_to_more_groups_than_a_grid_holds(device, monkeypatch):
    """Two images of 256 x 256 groups."""
    sizes, attend = [], network.biased_attention

    def spy(q, *others):
        sizes.append(len(q))
        return attend(q, *others)

    monkeypatch.setattr(network, 'biased_attention', spy)
    attn = GlobalScaleDilatedAttention(1, 1, 4).to(device)
    x = torch.randn(2, 1024, 1024, 1, device=device, requires_grad=True)
    attn(x).sum().backward()
    assert x.grad.shape == x.shape
    assert sum(sizes) == 2 * 65536
    assert device == 'cpu' or sizes == [65535, 65535, 2]
