"""Peak memory, against sums done by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scopevit.benchmark.memory import PeakMemory, measure_memory
from scopevit.benchmark.networks import Network


def test_peak_of_a_computation_worked_out_by_hand():
    x = torch.zeros(1000)  # made before, 4000 bytes
    with torch.no_grad(), PeakMemory() as memory:
        a = x + 1  # 4000 alive
        b = a.view(10, 100).t()  # a view
        b.add_(1)  # in place
        assert memory.peak_bytes == 4000
        c = a * 2  # 8000 alive
        del a, b  # 4000 alive
        d = torch.cat([c, c])  # 8000 bytes: 12000 alive
        del c  # 8000 alive
        d.sum()
    assert memory.peak_bytes == 12000
    assert memory.largest_bytes == 8000


def test_a_view_keeps_its_storage_alive():
    x = torch.zeros(1000)
    with torch.no_grad(), PeakMemory() as memory:
        a = x + 1
        part = a[:1]
        del a
        b = x + 2
        assert memory.peak_bytes == 8000
        del part, b
        c = x + 3
    del c
    assert memory.peak_bytes == 8000


def test_freed_tensors_do_not_add_up():
    x = torch.zeros(1000)
    with torch.no_grad(), PeakMemory() as memory:
        for _ in range(5):
            x = x + 1  # the old and the new one, but for the first, which was there before
    assert memory.peak_bytes == 8000


def test_tensors_made_before_do_not_count():
    weight = torch.zeros(8, 1000)
    x = torch.zeros(2, 1000)
    with torch.no_grad(), PeakMemory() as memory:
        F.linear(x, weight)
    assert memory.peak_bytes == 2 * 8 * 4


def test_backward_pass_keeps_what_it_saves():
    x = torch.zeros(1000, requires_grad=True)
    with PeakMemory() as memory:
        y = x.exp().sin()  # both results of 4000 bytes; exp saves its own
    assert memory.peak_bytes == 8000
    del y


@pytest.mark.parametrize('fused', [True, False])
def test_sees_the_matrix_of_explicit_attention(fused):
    q = torch.randn(1, 1, 400, 8)
    with torch.no_grad(), PeakMemory() as memory:
        if fused:
            F.scaled_dot_product_attention(q, q, q)
        else:
            (q @ q.transpose(-1, -2)).softmax(-1) @ q
    matrix = 400 * 400 * 4
    assert (memory.largest_bytes == matrix) is not fused
    assert (memory.largest_bytes < matrix) is fused


def test_memory_of_a_network_is_beyond_weights_and_image():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1)).eval()
    network = Network('n', 'here', 'classification', 'n', (3, 10, 10), module)
    assert measure_memory(network) == (4 + 2) * 100 * 4
