"""Deformable convolutions behind mmcv.ops, against loops that share no code with them."""

import importlib
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scopevit import compat

compat.apply()  # before mmcv.ops can be imported
ops = importlib.import_module('mmcv.ops')
EXT = importlib.import_module('mmcv._ext')
STANDS_IN = 'standins' in EXT.__file__
DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']


def sample(image, y, x):
    """Of maps (C, H, W), bilinear; pixels outside are 0."""
    value = np.zeros(len(image))
    for row, column in itertools.product(
        (math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)
    ):
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            share = (1 - abs(y - row)) * (1 - abs(x - column))
            value += share * image[:, row, column]
    return value


def brute(x, offset, mask, weight, stride, padding, dilation, groups, offset_groups):
    """The convolution, place by place; all are arrays, stride to dilation (down, across)."""
    (count, channels), (outputs, _, kernel_h, kernel_w) = x.shape[:2], weight.shape
    height, width = offset.shape[2:]
    out = np.zeros((count, outputs, height, width))
    for n, h, w in itertools.product(range(count), range(height), range(width)):
        seen = np.zeros((channels, kernel_h, kernel_w))
        for g, i, j in itertools.product(range(offset_groups), range(kernel_h), range(kernel_w)):
            part = slice(g * channels // offset_groups, (g + 1) * channels // offset_groups)
            place = (g * kernel_h + i) * kernel_w + j
            y = h * stride[0] - padding[0] + i * dilation[0] + offset[n, 2 * place, h, w]
            z = w * stride[1] - padding[1] + j * dilation[1] + offset[n, 2 * place + 1, h, w]
            seen[part, i, j] = sample(x[n, part], y, z)
            if mask is not None:
                seen[part, i, j] *= mask[n, place, h, w]
        for o in range(outputs):
            g = o * groups // outputs
            part = slice(g * channels // groups, (g + 1) * channels // groups)
            out[n, o, h, w] = (weight[o] * seen[part]).sum()
    return out


# Stride, padding, dilation, groups, groups of offsets, kernel, and the map of the outputs.
GEOMETRIES = {
    'plain': ((1, 1), (1, 1), (1, 1), 1, 1, (3, 3), (6, 7)),
    'groups': ((1, 1), (1, 1), (1, 1), 2, 1, (3, 3), (6, 7)),
    'groups of offsets': ((1, 1), (1, 1), (1, 1), 1, 2, (3, 3), (6, 7)),
    'uneven': ((2, 1), (2, 0), (1, 2), 2, 4, (3, 2), (4, 5)),
}


def given(name, batch=2, dtype=torch.float64, device='cpu', spread=1.5):
    """Maps of 6×7, offsets, masks, weights and bias, and the arguments of both convolutions."""
    stride, padding, dilation, groups, offset_groups, kernel, size = GEOMETRIES[name]
    generator = torch.Generator().manual_seed(len(name))
    places = offset_groups * kernel[0] * kernel[1]
    shapes = ((batch, 4, 6, 7), (batch, 2 * places, *size), (batch, places, *size),
              (6, 4 // groups, *kernel), (6,))  # fmt: skip
    tensors = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    tensors[1] *= spread
    tensors[2].sigmoid_()
    options = (stride, padding, dilation, groups, offset_groups)
    return [x.to(device, dtype) for x in tensors], options


each_geometry = pytest.mark.parametrize('name', GEOMETRIES)
each_half = pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)


@pytest.mark.parametrize('device', DEVICES)
@each_geometry
def test_first_kind(name, device):
    (x, offset, _, weight, _), options = given(name, device=device)
    out = ops.deform_conv2d(x, offset, weight, *options)
    arrays = [a.cpu().numpy() for a in (x, offset, weight)]
    np.testing.assert_allclose(out.cpu(), brute(*arrays[:2], None, arrays[2], *options), atol=1e-10)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('has_bias', [True, False])
@each_geometry
def test_second_kind(name, has_bias, device):
    (x, offset, mask, weight, bias), options = given(name, device=device)
    out = ops.modulated_deform_conv2d(x, offset, mask, weight, bias if has_bias else None, *options)
    expected = brute(*(a.cpu().numpy() for a in (x, offset, mask, weight)), *options)
    if has_bias:
        expected += bias.cpu().numpy()[:, None, None]
    np.testing.assert_allclose(out.cpu(), expected, atol=1e-10)


@each_geometry
def test_gradients_of_the_first_kind(name):
    (x, offset, _, weight, _), options = given(name)
    tensors = [t.requires_grad_() for t in (x, offset, weight)]
    assert torch.autograd.gradcheck(
        lambda *t: ops.deform_conv2d(*t, *options), tensors, fast_mode=True
    )


@pytest.mark.parametrize('has_bias', [True, False])
@each_geometry
def test_gradients_of_the_second_kind(name, has_bias):
    tensors, options = given(name)
    tensors = [t.requires_grad_() for t in tensors[: 4 + has_bias]]

    def convolve(x, offset, mask, weight, bias=None):
        return ops.modulated_deform_conv2d(x, offset, mask, weight, bias, *options)

    assert torch.autograd.gradcheck(convolve, tensors, fast_mode=True)


@pytest.mark.parametrize('wanted', [(0,), (1,), (2,), (0, 2)], ids=str)
def test_gradients_that_alone_are_asked_for(wanted):
    """mmcv asks for that of the weights by itself, or not at all."""
    tensors, options = given('uneven')
    tensors = [tensors[i] for i in (0, 1, 3)]

    def gradients(asked):
        leaves = [t.clone().requires_grad_(i in asked) for i, t in enumerate(tensors)]
        out = ops.deform_conv2d(*leaves, *options)
        for _ in range(2):  # the second adds to the first
            out.square().sum().backward(retain_graph=True)
        return [leaves[i].grad for i in asked]

    full = gradients((0, 1, 2))
    for index, grad in zip(wanted, gradients(wanted)):
        torch.testing.assert_close(grad, full[index], rtol=0, atol=0)


def test_parts_of_a_batch_give_what_the_whole_gives():
    tensors, options = given('groups of offsets', batch=4)
    found = []
    for step in (32, 2, 1):
        x, offset, weight = (tensors[i].clone().requires_grad_() for i in (0, 1, 3))
        out = ops.deform_conv2d(x, offset, weight, *options, False, step)
        out.square().sum().backward()
        found.append([out, x.grad, offset.grad, weight.grad])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_im2col_step_bounds_how_many_images_go_at_a_time(monkeypatch):
    if not STANDS_IN:
        pytest.skip('the compiled operator is another')
    sizes, convolve = [], EXT.deformable._convolve
    monkeypatch.setattr(
        EXT.deformable,
        '_convolve',
        lambda *given: (sizes.append(len(given[0])), convolve(*given))[1],
    )
    (x, offset, _, weight, _), options = given('plain', batch=6)
    ops.deform_conv2d(x, offset, weight, *options, False, 2)
    assert sizes == [2, 2, 2]


@pytest.mark.parametrize('modulated', [False, True])
def test_offsets_of_nothing_are_drawn_from_outside(modulated):
    """The padding's slope jumps where the map begins: a training begins just there."""
    x = torch.arange(1.0, 10).view(1, 1, 3, 3)
    offset = torch.zeros(1, 2, 5, 5, requires_grad=True)  # of a kernel of one place
    weight = torch.ones(1, 1, 1, 1)
    if modulated:
        out = ops.modulated_deform_conv2d(
            x, offset, torch.ones(1, 1, 5, 5), weight, None, 1, 1, 1, 1, 1
        )
    else:
        out = ops.deform_conv2d(x, offset, weight, 1, 1)
    out.sum().backward()
    # From inside, the first row down and the first column across would be 1, 2, 3 and 1, 4, 7.
    down = [[0, 0, 0, 0, 0], [0, 3, 3, 3, 0], [0, 3, 3, 3, 0], [0, -7, -8, -9, 0], [0] * 5]
    across = [[0] * 5, [0, 1, 1, -3, 0], [0, 1, 1, -6, 0], [0, 1, 1, -9, 0], [0] * 5]
    assert offset.grad[0].tolist() == [down, across]


@each_half
def test_half_precision_counts_in_float32(dtype):
    (x, offset, mask, weight, bias), options = given('groups', dtype=dtype)
    halves = [t.clone().requires_grad_() for t in (x, offset, mask, weight, bias)]
    exact = [t.float().requires_grad_() for t in (x, offset, mask, weight, bias)]
    for tensors in (halves, exact):
        first = ops.deform_conv2d(tensors[0], tensors[1], tensors[3], *options)
        second = ops.modulated_deform_conv2d(*tensors, *options)
        (first.float() + second.float()).sum().backward()
        tensors.append(first)
        tensors.append(second)
    for half, full in zip(halves[5:], exact[5:]):
        assert half.dtype == dtype
        torch.testing.assert_close(half, full.to(dtype))
    for half, full in zip(halves[:5], exact[:5]):
        # Two gradients, each rounded, and their sum.
        torch.testing.assert_close(half.grad.float(), full.grad, rtol=2e-2, atol=2e-2)


@each_half
@pytest.mark.parametrize('kind', ['DeformConv2dPack', 'ModulatedDeformConv2dPack'])
def test_layers_without_offsets_are_convolutions_also_under_autocast(kind, dtype):
    """Of a mask of 0.5 in the second kind."""
    torch.manual_seed(0)
    layer = getattr(ops, kind)(4, 6, 3, stride=2, padding=1)
    x = torch.randn(2, 4, 9, 8)
    expected = F.conv2d(x, layer.weight, None, 2, 1)
    if kind.startswith('Modulated'):
        expected = expected / 2 + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x), expected)
    with torch.autocast('cpu', dtype=dtype):
        out = layer(x)
    assert out.dtype == dtype  # mmcv takes that of the offsets
    torch.testing.assert_close(out.float(), expected, rtol=3e-2, atol=3e-2)
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_switchable_atrous_convolution_with_offsets_of_nothing():
    torch.manual_seed(0)
    plain = ops.SAConv2d(3, 4, 3, padding=1)
    deformable = ops.SAConv2d(3, 4, 3, padding=1, use_deform=True)
    missing, unexpected = deformable.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(name.startswith('offset_') for name in missing)
    x = torch.randn(2, 3, 10, 12)
    torch.testing.assert_close(deformable(x), plain(x))


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['DeformConv2dPack', 'ModulatedDeformConv2dPack'])
def test_compiled_layers_give_what_eager_ones_give(kind):
    torch.manual_seed(0)
    layer = getattr(ops, kind)(4, 6, 3, padding=1)
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.1)
    x = torch.randn(2, 4, 9, 8)
    found = []
    for run in (layer, torch.compile(layer, backend='aot_eager')):
        layer.zero_grad()
        out = run(x)
        out.square().sum().backward()
        found.append([out.detach(), *(p.grad.clone() for p in layer.parameters())])
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.skipif(not STANDS_IN, reason='the compiled operator is another')
def test_sizes_that_no_convolution_has_are_refused():
    with pytest.raises(TypeError, match='stride'):
        EXT.deform_conv_forward(*[torch.zeros(1, 1, 1, 1)] * 6, im2col_step=1, stride=1)


@pytest.mark.parametrize('second', [False, True])
def test_offsets_of_another_size_are_refused(second):
    (x, offset, mask, weight, _), options = given('plain')
    with pytest.raises(RuntimeError, match='offset'):
        if second:
            ops.modulated_deform_conv2d(x, offset[:, :-2], mask, weight, None, *options)
        else:
            ops.deform_conv2d(x, offset[:, :-2], weight, *options)
