"""Exports of the miniature checkpoints, each made once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from trained import Trained

from scopevit.export import export_checkpoint


@pytest.fixture(scope='session')
def exported(
    trained: Callable[[str], Trained], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A function that returns the ONNX file of a task."""
    pytest.importorskip('onnxruntime')
    known: dict[str, Path] = {}

    def make(task: str) -> Path:
        if task not in known:
            out = tmp_path_factory.mktemp(f'{task}_exported') / 'mine.onnx'
            made = trained(task)
            known[task] = export_checkpoint(made.checkpoint, out=out, images=made.images)
        return known[task]

    return make
