"""What the shims record, test by test."""

import pytest

from scopevit.compat import _acted


@pytest.fixture
def acted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the shims that act during a test."""
    monkeypatch.setattr(_acted, 'acted', [])
    return _acted.acted
