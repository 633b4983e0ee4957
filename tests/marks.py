"""Which cases of a test are slow."""

from collections.abc import Iterable

import pytest


def rest_is_slow(cases: Iterable) -> list:
    """Marks all cases of a heavy test but its first, which each run of the tests then has."""
    first, *rest = cases
    parameters = [case if isinstance(case, tuple) else (case,) for case in rest]
    return [first, *(pytest.param(*case, marks=pytest.mark.slow) for case in parameters)]
