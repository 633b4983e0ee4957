"""SyncBN behind mmcv.ops, against torch's batch norm of what all processes have."""

import importlib

import pytest
import torch
import torch.distributed as dist
from fake_cuda import needs_cuda_code, only_fake_cuda
from torch import nn

from scopevit import compat

compat.apply()  # before mmcv.ops can be imported
ops = importlib.import_module('mmcv.ops')
EXT = importlib.import_module('mmcv._ext')
STANDS_IN = 'standins' in EXT.__file__
pytestmark = pytest.mark.skipif(not STANDS_IN, reason='mmcv compiles it for CUDA')
CHANNELS = 3


def images(count=4):
    torch.manual_seed(0)
    return torch.randn(count, CHANNELS, 5, 6) * 3 + 2


def prepare(module):
    torch.manual_seed(1)
    nn.init.normal_(module.weight)
    nn.init.normal_(module.bias)
    return module


def step(module, x):
    """Output, gradients of input, weight and bias, and the running statistics."""
    x = x.clone().requires_grad_()
    output = module(x)
    slope = torch.linspace(-1, 1, x.shape[1:].numel()).view(x.shape[1:])
    (output * slope * x.detach()).sum().backward()
    grads = x.grad, module.weight.grad, module.bias.grad
    return [output.detach(), *grads, module.running_mean, module.running_var]


def join(store, rank=0, size=1):
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=size)


@pytest.fixture
def one_process(tmp_path):
    join(tmp_path / 'store')
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize('momentum', [0.1, None])
@pytest.mark.parametrize('mode', ['default', 'N'])
def test_one_process(mode, momentum, one_process):
    ours = prepare(ops.SyncBatchNorm(CHANNELS, momentum=momentum, stats_mode=mode))
    theirs = prepare(nn.BatchNorm2d(CHANNELS, momentum=momentum))
    for seed in range(2):
        x = images() + seed
        torch.testing.assert_close(step(ours, x), step(theirs, x), rtol=1e-4, atol=1e-4)
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize('shape', [(6, CHANNELS, 1), (2, CHANNELS, 4), (2, CHANNELS, 2, 3, 4)])
def test_other_shapes_without_running_statistics(shape, one_process):
    ours = prepare(ops.SyncBatchNorm(CHANNELS, track_running_stats=False))
    x = torch.randn(shape)
    expected = nn.functional.batch_norm(x, None, None, ours.weight, ours.bias, training=True)
    torch.testing.assert_close(ours(x), expected)


def test_an_empty_batch_changes_nothing(one_process):
    module = prepare(ops.SyncBatchNorm(CHANNELS, stats_mode='N'))
    output, grad, *_, mean, var = step(module, images(0))
    assert output.shape == grad.shape == (0, CHANNELS, 5, 6)
    assert mean.tolist() == [0, 0, 0] and var.tolist() == [1, 1, 1]


def half_of_the_images(rank, store, results):
    compat.apply()
    torch.set_num_threads(1)
    join(store, rank, 2)
    module = prepare(ops.SyncBatchNorm(CHANNELS))
    # The coefficients of `step` are the same for each image.
    torch.save(step(module, images()[rank * 2 : rank * 2 + 2]), results / f'{rank}.pth')
    dist.destroy_process_group()


def test_two_processes(tmp_path):
    torch.multiprocessing.spawn(half_of_the_images, (tmp_path / 'store', tmp_path), nprocs=2)
    parts = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    expected = step(prepare(nn.BatchNorm2d(CHANNELS)), images())
    for name, of_all, first, second in zip(
        ['output', 'input', 'weight', 'bias', 'mean', 'var'], expected, *parts
    ):
        if name in ('output', 'input'):
            ours = torch.cat([first, second])
        else:
            torch.testing.assert_close(first, second)
            # mmcv returns the mean over processes, which DistributedDataParallel takes anyway.
            ours = first * (2 if name in ('weight', 'bias') else 1)
        torch.testing.assert_close(ours, of_all, rtol=1e-4, atol=1e-4, msg=name)


def operators(x, weight, bias, grad, mean, var):
    """What mmcv calls one after the other, with statistics of `statistics`' type."""
    statistics = mean.dtype
    new = {n: torch.zeros_like(mean) for n in ('mean', 'var', 'std', 'grad_weight', 'grad_bias')}
    norm, out, grad_input = torch.zeros_like(x, dtype=statistics), x * 0, x * 0
    EXT.sync_bn_forward_mean(x, new['mean'])
    EXT.sync_bn_forward_var(x, new['mean'], new['var'])
    EXT.sync_bn_forward_output(
        x, new['mean'], new['var'], weight, bias, mean, var, norm, new['std'], out,
        eps=1e-5, momentum=0.1, group_size=1,
    )  # fmt: skip
    parameters = new['grad_weight'], new['grad_bias']
    EXT.sync_bn_backward_param(grad, norm, *parameters)
    EXT.sync_bn_backward_data(grad, weight, *parameters, norm, new['std'], grad_input)
    return [out, grad_input, *parameters, mean, var]


@pytest.mark.parametrize(
    'dtype, statistics',
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_operators_in_each_precision(dtype, statistics):
    """mmcv's function asks for float16 or float32 and their CUDA."""
    x, grad = (images().flatten(2) + i for i in range(2))
    x, grad = x.to(dtype), grad.to(dtype)
    exact = x.double().requires_grad_()
    module = prepare(nn.BatchNorm1d(CHANNELS)).double()
    ours = operators(
        x, module.weight.detach().to(statistics), module.bias.detach().to(statistics), grad,
        torch.zeros(CHANNELS, dtype=statistics), torch.ones(CHANNELS, dtype=statistics),
    )  # fmt: skip
    output = module(exact)
    output.backward(grad.double())
    expected = [output.detach(), exact.grad, module.weight.grad, module.bias.grad]
    expected += [module.running_mean, module.running_var]
    for i, (a, b) in enumerate(zip(ours, expected)):
        kind = dtype if i < 2 else statistics
        assert a.dtype == kind
        # Gradients of the input are differences of larger numbers.
        options = dict(rtol=1e-4, atol=1e-4) if kind == torch.float32 else {}
        torch.testing.assert_close(a, b.to(kind), **options)


def test_compiled(one_process):
    ours, x = prepare(ops.SyncBatchNorm(CHANNELS)), images()
    expected = step(prepare(ops.SyncBatchNorm(CHANNELS)), x)
    torch.compiler.reset()
    torch.testing.assert_close(step(torch.compile(ours, backend='aot_eager'), x), expected)


@needs_cuda_code
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_on_fake_cuda(dtype):
    with only_fake_cuda(), torch.no_grad():
        x = torch.empty(2, CHANNELS, 6, device='cuda', dtype=dtype)
        of_channels = [torch.empty(CHANNELS, device='cuda') for _ in range(4)]
        results = operators(x, *of_channels[:2], x, *of_channels[2:])
        assert {result.device.type for result in results} == {'cuda'}
