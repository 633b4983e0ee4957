"""Parameters and multiply-adds, against hand counts and published figures."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn

from scopevit.benchmark.complexity import count_complexity, run_counter
from scopevit.benchmark.networks import Network, from_timm
from scopevit.engine.libraries import find_library


def wrap(module, shape):
    return Network('name', 'here', 'classification', 'type', shape, module.eval())


class Small(nn.Module):
    """A convolution, attention over its 4x4 map with 2 heads, and a linear layer used twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.body = nn.ModuleDict(dict(linear=nn.Linear(8, 8)))

    def forward(self, x):
        x = self.conv(x).flatten(2).transpose(1, 2)  # (N, 8, 4, 4) -> (N, 16, 8)
        x = self.body['linear'](self.body['linear'](x))
        heads = x.reshape(len(x), 16, 2, 4).transpose(1, 2)  # (N, 2, 16, 4)
        return F.scaled_dot_product_attention(heads, heads, heads)


@pytest.mark.parametrize('device', ['meta', 'cpu'])
def test_hand_count(device):
    conv = 4 * 4 * 3 * 8 * 9
    linear = 2 * 16 * 8 * 8
    attention = 2 * (2 * 16 * 16 * 4)  # 2 heads: logits and weighted sum
    flops = run_counter(wrap(Small(), (3, 8, 8)), device)
    assert flops['conv'] == 2 * conv
    assert flops['body.linear'] == 2 * linear
    assert flops[''] == 2 * (conv + linear + attention)


def test_tree_has_containers_and_stops_at_its_depth():
    network = wrap(Small(), (3, 8, 8))
    rows = [(c.name, c.parameters, c.multiply_adds) for c in count_complexity(network, depth=2)]
    assert rows == [
        ('', 216 + 72, 3456 + 2048 + 4096),
        ('conv', 216, 3456),
        ('body', 72, 2048),
        ('body.linear', 72, 2048),
    ]
    assert [c.name for c in count_complexity(network, depth=1)] == ['', 'conv', 'body']
    assert [c.name for c in count_complexity(network)] == ['']


class ReadsValues(nn.Module):
    """Chooses a size by a value, which the meta device has none of."""

    def forward(self, x):
        size = int((x[0, 0, 0, 0] > -100).item()) + 2
        heads = x.reshape(1, 3, 4, size)
        return F.scaled_dot_product_attention(heads, heads, heads)


def test_counts_fused_attention_on_the_cpu_where_values_matter():
    network = wrap(ReadsValues(), (3, 2, 6))
    with pytest.raises((NotImplementedError, RuntimeError)):
        run_counter(network, 'meta')
    # 3 heads, 4 tokens of 3 channels
    assert count_complexity(network)[0].multiply_adds == 2 * 3 * 4 * 4 * 3


class SharesLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 3, 1))
        self.second = nn.Sequential(self.first[0])

    def forward(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize('make', [Small, SharesLayer])
def test_network_stays_as_it_is(make):
    network = wrap(make(), (3, 8, 8))
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    images = network.make_input()
    expected = network.module(images)
    count_complexity(network)
    assert torch.equal(network.module(images), expected)
    for name, value in network.module.state_dict().items():
        assert torch.equal(value, before[name])


def scopevit(arch, channels):
    find_library('mmpretrain')
    cfg = dict(
        type='ImageClassifier',
        backbone=dict(type='ScopeViT', arch=arch, out_indices=(3,)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=1000, in_channels=channels),
    )
    with MODELS.switch_scope_and_registry('mmpretrain') as registry:
        return registry.build(cfg).eval()


@pytest.mark.parametrize(
    'arch, channels, side, parameters, giga',
    [
        ('xtiny', 256, 256, 5.287, 1.448),
        ('tiny', 256, 256, 8.007, 1.979),
        ('small', 512, 256, 18.162, 4.557),
        ('xtiny', 256, 512, 5.287, 8.239),
        ('tiny', 256, 512, 8.007, 11.419),
        ('small', 512, 512, 18.162, 22.752),
    ],
)
def test_scopevit_meets_the_known_figures(arch, channels, side, parameters, giga):
    """They are fvcore's, which adds 2 for each value of a batch norm and 5 of a layer norm."""
    network = wrap(scopevit(arch, channels), (3, side, side))
    norms = []

    def count_norm(module, _, out):
        norms.append(out.numel() * {nn.BatchNorm2d: 2, nn.LayerNorm: 5}.get(type(module), 0))

    hooks = [module.register_forward_hook(count_norm) for module in network.module.modules()
             if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm))]  # fmt: skip
    found = count_complexity(network)[0]
    for hook in hooks:
        hook.remove()
    assert found.parameters / 1e6 == pytest.approx(parameters, abs=5e-4)
    assert (found.multiply_adds + sum(norms)) / 1e9 == pytest.approx(giga, abs=6e-4)
    assert 0.98 < found.multiply_adds / (giga * 1e9) < 1


def test_cpu_and_meta_agree_on_scopevit():
    network = wrap(scopevit('xtiny', 256), (3, 96, 130))
    assert run_counter(network, 'cpu') == run_counter(network, 'meta')


@pytest.mark.parametrize(
    'name, parameters, giga',
    [
        ('deit_small_patch16_224', 22.05, 4.61),
        ('convnextv2_pico', 9.07, 1.37),
        ('mobilevitv2_150', 10.59, 4.09),
        ('coat_mini', 10.34, 6.82),
        ('crossvit_small_240', 26.86, 5.63),
    ],
)
def test_peers_meet_the_known_figures(name, parameters, giga):
    """The known figures count the norms too, at most 1.2 %."""
    found = count_complexity(from_timm(name))[0]
    assert found.parameters / 1e6 == pytest.approx(parameters, abs=0.006)
    assert found.multiply_adds / 1e9 == pytest.approx(giga, rel=0.012)
