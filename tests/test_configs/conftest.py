"""What the tests of the recipes share."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(scope='module', autouse=True)
def quiet() -> Iterator[None]:
    """Keeps mmengine from saying how it initialised every weight of every model."""
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)
