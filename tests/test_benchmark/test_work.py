"""What operators move and compute, against sums done by hand."""

import pytest
import torch
import torch.nn.functional as F

from scopevit.benchmark.work import Work


def moved(function, *args):
    with torch.no_grad(), Work() as work:
        function(*args)
    return work.moved_bytes, work.operators


X = torch.zeros(10, 100)  # 4000 bytes


@pytest.mark.parametrize(
    'function, expected',
    [
        (lambda: X + 1, (8000, 1)),
        (lambda: X + X, (8000, 1)),  # the same numbers once
        (lambda: X + X.clone(), (8000 + 12000, 2)),
        (lambda: X.clone().add_(1), (8000 + 8000, 2)),
        (lambda: X.view(100, 10).t()[3:].expand(4, 7, 100), (0, 0)),
        (lambda: X[:, :50] + 1, (4000, 1)),
        (lambda: torch.zeros(1, 100).expand(10, 100) + X, (400 + 400 + 4000 + 4000, 2)),
        (lambda: torch.empty(1000), (0, 0)),
        (lambda: torch.zeros_like(X), (4000, 1)),
        (lambda: X.half(), (4000 + 2000, 1)),
        (lambda: torch.empty(10, 100).copy_(X), (8000, 1)),
        (lambda: X[torch.empty(3, dtype=torch.int64).zero_()], (24 + 3 * 400, 2)),
    ],
    ids=range(12),
)
def test_moved_bytes(function, expected):
    assert moved(function) == expected


@pytest.mark.parametrize('groups', [1, 8])
def test_operations_of_a_convolution(groups):
    x = torch.zeros(2, 8, 16, 12, requires_grad=True)
    weight = torch.zeros(24, 8 // groups, 3, 3, requires_grad=True)
    with Work() as work:
        out = F.conv2d(x, weight, padding=1, groups=groups).sum()
        forward = work.operations
        out.backward()
    # Two for each multiply-add: 9 of each input channel of the group for each number of the output.
    assert forward == 2 * 2 * 24 * 16 * 12 * 9 * 8 // groups
    assert work.operations == 3 * forward


def test_gradients_that_nobody_wants_take_no_operations():
    weight = torch.zeros(4, 8, 3, 3, requires_grad=True)
    with Work() as work:
        out = F.conv2d(torch.zeros(2, 8, 16, 12), weight).sum()
        forward = work.operations
        out.backward()
    assert work.operations == 2 * forward


def test_operations_of_a_linear_layer():
    x = torch.zeros(5, 8, requires_grad=True)
    weight = torch.zeros(3, 8, requires_grad=True)
    with Work() as work:
        F.linear(x, weight).sum().backward()
    assert work.operations == 3 * 2 * 5 * 8 * 3
