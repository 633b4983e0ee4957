"""What the yardsticks multiply and copy."""

import pytest
import torch
import torch.nn.functional as F

from scopevit.benchmark import timing, yardsticks
from scopevit.benchmark.yardsticks import Yardsticks


@pytest.mark.parametrize('precision', ['float32', 'bfloat16', 'float16'])
def test_products_are_of_the_type_that_is_asked_for(precision):
    left, right = Yardsticks([precision], 'cpu').factors(precision, 32)
    assert {left.dtype, right.dtype} == {getattr(torch, precision)}
    product = F.linear(left, right)
    left, right, product = (x.to_dense() if x.is_mkldnn else x for x in (left, right, product))
    torch.testing.assert_close(product, left @ right.T)


def test_rates_are_those_of_the_operations_and_bytes(monkeypatch):
    monkeypatch.setitem(yardsticks.PRODUCT_SIDES, 'cpu', 10)
    monkeypatch.setattr(yardsticks, 'COPIED_NUMBERS', 100)
    times = iter([1.0, 2.0, 4.0, 0.5, 8.0, 2.0, 1.0, 4.0, 1.0])  # two products and a copy a round
    monkeypatch.setattr(yardsticks, 'median_time', lambda run: next(times))
    sticks = Yardsticks(['float32', 'bfloat16'], 'cpu')
    turns = sticks.take_turns()
    for _ in range(4):  # the first prepares
        next(turns)
    assert sticks.product_rates == {'float32': 2000.0, 'bfloat16': 500.0}  # 2 * 10^3 operations
    assert sticks.copy_rate == 400.0  # 800 bytes read and written, in 4, 2 and 1 s


def test_they_run(monkeypatch):
    monkeypatch.setattr(timing, 'VISIT_SECONDS', 1e-3)
    monkeypatch.setitem(yardsticks.PRODUCT_SIDES, 'cpu', 64)
    sticks = Yardsticks(['float32', 'float16'], 'cpu')
    turns = sticks.take_turns()
    next(turns), next(turns)
    assert all(rate > 0 for rate in (*sticks.product_rates.values(), sticks.copy_rate))
