"""Attention on fake CUDA tensors: what a fused kernel keeps, and nothing of the matrix."""

import pytest
import torch
import torch.nn.functional as F
from fake_cuda import needs_cuda_code, only_fake_cuda

from scopevit.benchmark.fake_cuda import backward, check_cuda_code, fused_attention
from scopevit.benchmark.memory import PeakMemory
from scopevit.errors import InputError

# Batch, heads, queries, keys, channels; rows of the logits' sums are a multiple of 32.
B, HEADS, S, K, D = 2, 4, 100, 60, 16
ROWS = 128


@pytest.fixture
def on_fake_cuda():
    with only_fake_cuda(), fused_attention():
        yield


@needs_cuda_code
@pytest.mark.parametrize('autocast', [None, torch.float16], ids=str)
def test_memory_of_attention_worked_out_by_hand(on_fake_cuda, autocast):
    dtype = autocast or torch.float32
    q = torch.empty(B, HEADS, S, D, dtype=dtype, device='cuda', requires_grad=True)
    k = torch.empty(B, HEADS, K, D, dtype=dtype, device='cuda', requires_grad=True)
    with PeakMemory() as memory, torch.autocast('cuda', autocast, enabled=autocast is not None):
        out = F.scaled_dot_product_attention(q, k, k)
    assert (tuple(out.shape), out.dtype) == ((B, HEADS, S, D), dtype)
    scalars = 2 * 8  # of the random numbers of dropout
    assert memory.peak_bytes == B * HEADS * (S * D * dtype.itemsize + ROWS * 4) + scalars
    backward(out.sum())
    assert (q.grad.shape, k.grad.shape) == (q.shape, k.shape)


@needs_cuda_code
def test_gradient_of_a_bias_is_as_large_as_the_matrix(on_fake_cuda):
    q = torch.empty(B, HEADS, S, D, device='cuda', requires_grad=True)
    k = torch.empty(B, HEADS, K, D, device='cuda')
    bias = torch.empty(1, HEADS, S, K, device='cuda', requires_grad=True)
    out = F.scaled_dot_product_attention(q, k, k, attn_mask=bias)
    loss = out.sum()
    with PeakMemory() as memory:
        backward(loss)
    assert bias.grad.shape == bias.shape
    assert memory.largest_bytes == B * HEADS * S * 64 * 4  # 60 keys in rows of a multiple of 16


@needs_cuda_code
def test_without_gradients_no_sums_are_kept(on_fake_cuda):
    q = torch.empty(B, HEADS, S, D, device='cuda')
    with PeakMemory() as memory:
        F.scaled_dot_product_attention(q, q, q)
    assert memory.peak_bytes == B * HEADS * S * D * 4 + 2 * 8


@needs_cuda_code
def test_backward_frees_what_is_done(on_fake_cuda):
    x = torch.empty(1000, device='cuda', requires_grad=True)
    with PeakMemory() as memory:
        y = x
        for _ in range(5):
            y = y.exp()  # each keeps its own result
        del y
        z = x.exp().exp().exp().exp().exp().sum()
        before = memory.peak_bytes
        backward(z)
        z = torch.empty(4 * 1000, device='cuda')
    assert before == 5 * 4000 + 4
    # One gradient comes as one is done with; the last result goes with the first of them.
    assert memory.peak_bytes <= before + 2 * 4000 + 4
    assert x.grad.shape == x.shape


def test_a_torch_for_cpus_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, 'is_built', lambda: False)
    with pytest.raises(InputError, match='built for CPUs alone'):
        check_cuda_code()
