"""What the tests of tools/gpu share."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

GPU = Path(__file__).parents[2] / 'tools' / 'gpu'


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A function that imports a file of tools/gpu."""
    monkeypatch.syspath_prepend(str(GPU))
    return importlib.import_module


@pytest.fixture
def findings(load: Callable[[str], ModuleType], tmp_path: Path) -> Any:
    """What a step finds, empty."""
    return load('findings').Findings(tmp_path / 'step' / 'findings.json')
