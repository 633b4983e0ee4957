"""PSA masks behind mmcv.ops, against loops over their definition."""

import importlib
import itertools

import pytest
import torch
from fake_cuda import needs_cuda_code, only_fake_cuda

from scopevit import compat
from scopevit.benchmark.fake_cuda import backward

compat.apply()  # before mmcv.ops can be imported
ops = importlib.import_module('mmcv.ops')
STANDS_IN = 'standins' in importlib.import_module('mmcv._ext').__file__
DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
each_kind = pytest.mark.parametrize('kind', ['collect', 'distribute'])
# Smaller than the features, of even size, and so large that it reaches all from anywhere.
each_mask = pytest.mark.parametrize('mask', [(3, 3), (2, 4), (5, 7), (9, 11)])


def brute(input, kind, mask):
    count, _, height, width = input.shape
    masks = input.view(count, *mask, height, width)
    output = input.new_zeros(count, height, width, height, width)
    for h, w, i, j in itertools.product(range(height), range(width), *map(range, mask)):
        y, x = h + i - (mask[0] - 1) // 2, w + j - (mask[1] - 1) // 2
        if 0 <= y < height and 0 <= x < width:
            place = (y, x, h, w) if kind == 'collect' else (h, w, y, x)
            output[(slice(None), *place)] = masks[:, i, j, h, w]
    return output.view(count, height * width, height, width)


@each_kind
@each_mask
@pytest.mark.parametrize('device', DEVICES)
def test_values(kind, mask, device):
    input = torch.randn(2, mask[0] * mask[1], 4, 6)
    output = ops.PSAMask(kind, mask)(input.to(device)).cpu()
    assert torch.equal(output, brute(input, kind, mask))


@each_kind
@each_mask
def test_gradients(kind, mask):
    input = torch.randn(1, mask[0] * mask[1], 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ops.PSAMask(kind, mask), input)


@each_kind
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.skipif(not STANDS_IN, reason='the compiled operator has float32 alone')
def test_half_precision(kind, dtype):
    input = torch.randn(2, 9, 4, 6).to(dtype).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = ops.PSAMask(kind, (3, 3))(input)
    assert output.dtype == dtype
    assert torch.equal(output, brute(input, kind, (3, 3)))
    output.sum().backward()
    # 1 for each neighbour that exists: the middle of the mask for all, its corner for some.
    assert input.grad[0, 4].eq(1).all() and input.grad[0, 0].sum() == 3 * 5


@each_kind
def test_without_images(kind):
    input = torch.randn(0, 9, 4, 6, requires_grad=True)
    output = ops.PSAMask(kind, (3, 3))(input)
    assert output.shape == (0, 24, 4, 6)
    output.sum().backward()
    assert input.grad.shape == input.shape


@each_kind
def test_compiled(kind):
    module = ops.PSAMask(kind, (3, 5))
    input = torch.randn(2, 15, 4, 6, requires_grad=True)
    expected = module(input)
    (grad,) = torch.autograd.grad(expected.square().sum(), input)
    torch.compiler.reset()
    output = torch.compile(module, backend='aot_eager', fullgraph=True)(input)
    assert torch.equal(output, expected)
    assert torch.equal(torch.autograd.grad(output.square().sum(), input)[0], grad)


@each_kind
@needs_cuda_code
@pytest.mark.skipif(not STANDS_IN, reason='compiled operators want CUDA')
def test_on_fake_cuda(kind):
    with only_fake_cuda():
        input = torch.empty(2, 9, 4, 6, device='cuda', requires_grad=True)
        output = ops.PSAMask(kind, (3, 3))(input)
        assert output.shape == (2, 24, 4, 6)
        backward(output.sum())
        assert input.grad.shape == input.shape
