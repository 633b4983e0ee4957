"""CARAFE behind mmcv.ops, against loops over its definition."""

import importlib
import itertools

import numpy as np
import pytest
import torch
from fake_cuda import needs_cuda_code, only_fake_cuda

from scopevit import compat
from scopevit.benchmark.fake_cuda import backward
from scopevit.benchmark.memory import PeakMemory

compat.apply()  # before mmcv.ops can be imported
ops = importlib.import_module('mmcv.ops')
EXT = importlib.import_module('mmcv._ext')
STANDS_IN = 'standins' in EXT.__file__
pytestmark = pytest.mark.skipif(
    not STANDS_IN and not torch.cuda.is_available(), reason='mmcv compiles it for CUDA'
)
DEVICES = (['cpu'] if STANDS_IN else []) + (['cuda'] if torch.cuda.is_available() else [])
each_device = pytest.mark.parametrize('device', DEVICES)
each_size = pytest.mark.parametrize('kernel, groups, scale', [(3, 2, 2), (5, 1, 2), (1, 4, 3)])


def inputs(kernel, groups, scale, count=2, dtype=torch.float64, device='cpu'):
    torch.manual_seed(0)
    features = torch.randn(count, 4, 3, 5, dtype=dtype, device=device)
    masks = torch.rand(count, groups * kernel**2, 3 * scale, 5 * scale, dtype=dtype, device=device)
    return features.requires_grad_(), masks.requires_grad_()


def brute(features, masks, kernel, groups, scale):
    count, channels, height, width = features.shape
    output = np.zeros((count, channels, height * scale, width * scale))
    for n, c, y, x in itertools.product(*map(range, output.shape)):
        group = c // (channels // groups)
        for i, j in itertools.product(range(kernel), range(kernel)):
            row, column = y // scale + i - kernel // 2, x // scale + j - kernel // 2
            if 0 <= row < height and 0 <= column < width:
                weight = masks[n, (group * kernel + i) * kernel + j, y, x]
                output[n, c, y, x] += weight * features[n, c, row, column]
    return output


@each_device
@each_size
@pytest.mark.parametrize('form', [ops.carafe, ops.carafe_naive])
def test_values(form, kernel, groups, scale, device):
    features, masks = inputs(kernel, groups, scale, device=device)
    output = form(features, masks, kernel, groups, scale)
    expected = brute(*(x.numpy(force=True) for x in (features, masks)), kernel, groups, scale)
    np.testing.assert_allclose(output.numpy(force=True), expected, atol=1e-12)


@each_device
@each_size
def test_gradients(kernel, groups, scale, device):
    assert torch.autograd.gradcheck(
        lambda features, masks: ops.carafe(features, masks, kernel, groups, scale),
        inputs(kernel, groups, scale, device=device),
    )


@each_size
def test_gradients_of_the_naive_form(kernel, groups, scale):
    """From the operator: the Python around it refuses to go back on a CPU."""
    features, masks = inputs(kernel, groups, scale)
    output = ops.carafe(features, masks, kernel, groups, scale)
    coefficients = torch.randn_like(output)
    expected = torch.autograd.grad((output * coefficients).sum(), (features, masks))
    grads = torch.zeros_like(features), torch.zeros_like(masks)
    with torch.no_grad():
        EXT.carafe_naive_backward(coefficients, features, masks, *grads, kernel, groups, scale)
    torch.testing.assert_close(grads, expected)


@each_device
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_other_precisions(dtype, device):
    low = [x.detach().to(dtype).requires_grad_() for x in inputs(3, 2, 2, device=device)]
    exact = [x.detach().double().requires_grad_() for x in low]
    with torch.autocast(device, dtype=torch.bfloat16):
        output = ops.carafe(*low, 3, 2, 2)
        output.sum().backward()
    expected = ops.carafe(*exact, 3, 2, 2)
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected.to(dtype))
    expected.sum().backward()
    for x, y in zip(low, exact):
        torch.testing.assert_close(x.grad, y.grad.to(dtype))


@each_device
def test_without_images(device):
    features, masks = inputs(3, 2, 2, count=0, device=device)
    output = ops.carafe(features, masks, 3, 2, 2)
    assert output.shape == (0, 4, 6, 10)
    output.sum().backward()
    assert features.grad.shape == features.shape and masks.grad.shape == masks.shape


def test_compiled_module_with_channels_last():
    torch.manual_seed(0)
    module = ops.CARAFEPack(8, 2, up_kernel=3, up_group=2, compressed_channels=4).double()
    torch.nn.init.normal_(module.content_encoder.weight)
    x = torch.randn(2, 8, 4, 5, dtype=torch.float64, requires_grad=True)
    expected = module(x)
    leaves = [x, *module.parameters()]
    grads = torch.autograd.grad(expected.square().sum(), leaves)
    assert min(grad.abs().max() for grad in grads[:2]) > 0
    torch.compiler.reset()
    compiled = torch.compile(module, backend='aot_eager', fullgraph=True)
    output = compiled(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(torch.autograd.grad(output.square().sum(), leaves), grads)


@pytest.mark.skipif(not STANDS_IN, reason='memory of the stand-in')
def test_memory():
    """Patches of all places at once would take 25 times the features, 6 times the output."""
    features, masks = torch.randn(1, 64, 16, 16), torch.rand(1, 25, 32, 32)
    output = torch.empty(1, 64, 32, 32)
    with torch.no_grad(), PeakMemory() as memory:
        EXT.carafe_naive_forward(features, masks, output, 5, 1, 2)
    assert memory.peak_bytes < 3 * output.nbytes


@needs_cuda_code
@pytest.mark.skipif(not STANDS_IN, reason='compiled operators want CUDA')
@pytest.mark.parametrize('form', [ops.carafe, ops.carafe_naive])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_on_fake_cuda(dtype, form):
    with only_fake_cuda():
        options = dict(device='cuda', dtype=dtype, requires_grad=True)
        features, masks = torch.empty(2, 4, 3, 5, **options), torch.empty(2, 18, 6, 10, **options)
        output = form(features, masks, 3, 2, 2)
        assert (output.shape, output.dtype) == ((2, 4, 6, 10), dtype)
        backward(output.sum())
        assert features.grad.shape == features.shape and masks.grad.shape == masks.shape
