"""Weights by name."""

import pytest
import torch

from scopevit.errors import InputError
from scopevit.state_dict import compare, describe, strip_prefix, unwrap_state_dict


def test_differences_of_weights():
    expected = {
        'a.weight': torch.zeros(2, 3),
        'b.weight': torch.zeros(4),
        'c.num_batches_tracked': torch.tensor(0),
    }
    given = {'a.weight': torch.zeros(3, 2), 'd': torch.zeros(1)}
    problems = compare(expected, given)
    assert problems == {
        'a.weight': '(3, 2) instead of (2, 3)',
        'b.weight': 'missing',
        'd': 'unexpected',
    }
    assert describe(problems) == (
        '1 missing: b.weight; 1 unexpected: d; '
        '1 of another shape: a.weight (3, 2) instead of (2, 3)'
    )
    many = {f'w{i}': 'missing' for i in range(7)}
    assert describe(many) == '7 missing: w0, w1, w2, w3, w4, ...'


def test_one_name_for_two_weights():
    state_dict = {'a': torch.ones(1), 'module.a': torch.ones(1)}
    with pytest.raises(InputError, match='both a and module.a'):
        strip_prefix(state_dict, 'module.')
    with pytest.raises(InputError, match='^a.pth has both a and module.a'):
        unwrap_state_dict(state_dict, 'a.pth')
