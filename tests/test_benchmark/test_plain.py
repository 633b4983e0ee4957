"""The plain implementation computes what the backbone computes."""

import pytest
import torch
from mini import MINI
from torch import nn

from scopevit import ScopeViT
from scopevit.benchmark.memory import PeakMemory
from scopevit.benchmark.plain import PlainRelPos, PlainScopeViT

# No group is ragged; all kinds of group; sides below the grid.
SIZES = [(256, 256), (200, 332), (33, 47)]


def pair(arch, dtype=torch.float64):
    """Backbone and plain implementation with the same weights, none of which is near 0 or 1."""
    torch.manual_seed(0)
    model = ScopeViT(arch, layer_scale_init_value=0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.normal_(module.weight, 1, 0.1)
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    plain = PlainScopeViT(arch)
    plain.load_state_dict(model.state_dict())
    return model.to(dtype), plain.to(dtype)


def relative_error(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_outputs_and_gradients_are_equal(size, dtype, tolerance):
    image = torch.randn(2, 3, *size, dtype=dtype)
    results = []
    for model in pair(MINI, dtype):
        outs = model.eval()(image)
        sum(out.square().mean() for out in outs).backward()
        results.append((outs, dict(model.named_parameters())))
    (expected, weights), (actual, plain_weights) = results
    assert [out.shape for out in actual] == [out.shape for out in expected]
    for ours, theirs in zip(actual, expected):
        assert relative_error(ours, theirs) < tolerance
    if dtype == torch.float64:  # in float32 the sign of a ReLU's input may turn over
        for name, weight in weights.items():
            torch.testing.assert_close(plain_weights[name].grad, weight.grad, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize('arch', ['xtiny', 'tiny', 'small'])
def test_real_sizes_are_equal(arch):
    model, plain = (net.eval() for net in pair(arch))
    image = torch.randn(1, 3, 72, 100, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in zip(plain(image), model(image)):
            assert relative_error(ours, theirs) < 1e-10


def test_training_is_equal_but_for_chance():
    image = torch.randn(2, 3, 64, 72, dtype=torch.float64)
    model, plain = pair(MINI)
    for net in (model, plain):
        for module in net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    for ours, theirs in zip(plain.train()(image), model.train()(image)):
        assert relative_error(ours, theirs) < 1e-10
    statistics = dict(model.named_buffers())
    for name, buffer in plain.named_buffers():
        if name.endswith(('running_mean', 'running_var')):
            assert relative_error(buffer, statistics[name]) < 1e-10


def test_attention_matrices_are_materialised():
    """It is not the explicit attention it claims to be unless the largest tensor is the matrix."""
    image = torch.randn(1, 3, 256, 256)
    with torch.no_grad(), PeakMemory() as memory:
        PlainScopeViT(MINI).eval()(image)
    keys = (64 // 4 + 1) ** 2
    assert memory.largest_bytes == 2 * 64 * 64 * keys * 4  # 2 heads


def test_bias_is_computed_at_every_pass():
    bias = PlainRelPos(2, 8).eval()
    calls = []
    bias.fc1.register_forward_hook(lambda *args: calls.append(1))
    with torch.no_grad():
        first = bias(2, 3)
        bias.fc2.bias += 1
        torch.testing.assert_close(bias(2, 3), first + 1)
    assert len(calls) == 2 and first.shape == (2, 6, 6)
    # Slots 0 and 4 of 2 x 3 are (0, 0) and (1, 1); 1 and 5 are as far apart.
    torch.testing.assert_close(first[:, 0, 4], first[:, 1, 5])
    assert not torch.allclose(first[:, 0, 4], first[:, 4, 0])


def test_bad_arch_is_named():
    with pytest.raises(ValueError, match="not 'huge'"):
        PlainScopeViT('huge')
