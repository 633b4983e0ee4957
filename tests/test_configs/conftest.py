"""What the tests of the recipes share."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from trees import write_ade, write_coco, write_custom, write_imagenet


@pytest.fixture(scope='module', autouse=True)
def quiet() -> Iterator[None]:
    """Keeps mmengine from saying how it initialised every weight of every model."""
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope='session')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with miniatures of the recipes' data sets in `data`."""
    root = tmp_path_factory.mktemp('tree')
    write_imagenet(root / 'data' / 'imagenet')
    write_custom(root / 'data' / 'custom')
    write_coco(root / 'data' / 'coco')
    write_ade(root / 'data' / 'ade' / 'ADEChallengeData2016')
    return root
