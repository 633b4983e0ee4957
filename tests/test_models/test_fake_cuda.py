"""The backbone on fake CUDA tensors: all stays there, in its type, and takes the plain way."""

import math

import pytest
import torch
from fake_cuda import needs_cuda_code, only_fake_cuda
from marks import rest_is_slow
from mini import MINI
from torch import nn

from scopevit.benchmark.fake_cuda import backward, to_cuda
from scopevit.models import ScopeViT
from scopevit.models.groups import DilatedGroups
from scopevit.models.padded_groups import PaddedGroups
from scopevit.models.scopevit import GlobalScaleDilatedAttention, MultiScaleSelfAttention
from scopevit.models.sizes import resolve_arch

pytestmark = needs_cuda_code
SIZES = [(224, 224), (224, 232), (250, 232), (32, 32), (200, 336), (800, 1333)]
TRAINED = ['trained', 'checkpointed']
FORMS = [*TRAINED, 'eval', 'deployed', 'checkpointed, in eval mode']
# Of weights and images, and of autocast.
DTYPES = [
    (torch.float64, None),
    (torch.float32, None),
    (torch.float16, None),
    (torch.bfloat16, None),
    (torch.float32, torch.float16),
    (torch.float32, torch.bfloat16),
]


def maps_of(size):
    """Sides of the four maps of an image."""
    return [tuple(math.ceil(side / stride) for side in size) for stride in (4, 8, 16, 32)]


def kinds_of(size):
    """How many kinds of groups each of the four maps has."""
    return [len(DilatedGroups(*sides, MINI['grid_size']).kinds) for sides in maps_of(size)]


def check(arch, size, form, dtype, autocast=None):
    """Traces a pass, with gradients if the form is trained, and asserts where it went and how."""
    row = resolve_arch(arch)
    model = ScopeViT(arch, drop_path_rate=0.1, with_cp='checkpointed' in form)
    model.train(form in TRAINED)
    if form == 'deployed':
        model.switch_to_deploy()
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    blocks = list(zip(row['depths'], kinds_of(size)))
    attentions = sum(depth * (1 + kinds) for depth, kinds in blocks)
    # MSSA 3 and the bias 2, each MLP 2, each kind of group 2
    linears = sum(depth * (9 + 2 * kinds) for depth, kinds in blocks)
    with only_fake_cuda() as calls:
        to_cuda(model, dtype)
        x = torch.empty(2, 3, *size, dtype=dtype, device='cuda', requires_grad=model.training)
        with (
            torch.set_grad_enabled(model.training),
            torch.autocast('cuda', autocast, enabled=autocast is not None),
        ):
            maps = model(x)
        # Linear layers as convolutions, or any of it in parts, would be other numbers.
        assert calls.count['conv2d'] == convolutions
        assert calls.count['linear'] == linears
        assert calls.count['scaled_dot_product_attention'] == attentions
        assert [tuple(out.shape) for out in maps] == [
            (2, channels, *sides) for channels, sides in zip(row['embed_dims'], maps_of(size))
        ]
        assert {(out.dtype, out.device.type) for out in maps} == {(dtype, 'cuda')}
        if form in TRAINED:
            backward(sum(out.float().sum() for out in maps))
            is_recomputed = calls.count['linear'] > linears
            assert is_recomputed == (form == 'checkpointed')
            for leaf in (x, *model.parameters()):
                assert leaf.grad.shape == leaf.shape
                assert leaf.grad.dtype == dtype
                assert leaf.grad.device.type == 'cuda'


def test_what_the_tests_stand_on():
    with only_fake_cuda(), pytest.raises(AssertionError, match='arange.* on cpu, of shape .4'):
        torch.arange(4)
    model = ScopeViT(MINI, drop_path_rate=0.1).double()
    x = torch.rand(2, 3, 72, 50, dtype=torch.float64, requires_grad=True)
    leaves = [x, *model.parameters()]
    loss = sum(out.square().sum() for out in model(x))
    expected = torch.autograd.grad(loss, leaves, retain_graph=True)
    backward(loss)
    torch.testing.assert_close([leaf.grad for leaf in leaves], list(expected))


def test_sizes_are_of_all_kinds():
    assert {kinds for size in SIZES for kinds in kinds_of(size)} == {1, 2, 4}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('dtype, autocast', DTYPES, ids=str)
def test_types(dtype, autocast, form):
    check(MINI, (64, 96), form, dtype, autocast)


@pytest.mark.parametrize('form', rest_is_slow(['eval', *TRAINED, 'deployed']))
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_sizes(size, form):
    check(MINI, size, form, torch.float32, torch.bfloat16)


@pytest.mark.parametrize('form', rest_is_slow(FORMS))
@pytest.mark.parametrize('autocast', rest_is_slow([torch.float16, None]), ids=str)
def test_a_published_size(autocast, form):
    check('tiny', (250, 232), form, torch.float32, autocast)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_padded_groups(size):
    """The groups of a graph compiled for any size."""
    height, width = size
    with only_fake_cuda():
        groups = PaddedGroups(height, width, 8)
        x = torch.empty(2, height, width, 16, device='cuda')
        (kind,) = groups.split(x)
        bias = groups.mask(torch.empty(4, 64, 64, device='cuda'))
        assert groups.merge(iter([kind])).shape == x.shape
        assert len(bias) == kind.shape[1] * kind.shape[2] * 4
        assert {y.device.type for y in (kind, bias)} == {'cuda'}


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_inputs_of_attention(size):
    """What the tools that draw attention ask for."""
    mssa = MultiScaleSelfAttention(16, 4, 2, (2, 1, 1), dict(type='BN'))
    gsda = GlobalScaleDilatedAttention(16, 4, 8)
    with only_fake_cuda():
        x = torch.empty(2, *maps_of(size)[0], 16, device='cuda')
        for attention in (mssa, gsda):
            for inputs in to_cuda(attention, torch.float32).eval().inputs(x):
                assert {y.device.type for y in inputs if y is not None} == {'cuda'}
