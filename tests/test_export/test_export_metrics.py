"""The metrics of a checkpoint and of what was exported of it."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from trained import Trained

from scopevit.errors import InputError
from scopevit.export import export_checkpoint, metrics

NAN = math.nan


def test_both_go_through_the_test(
    trained: Callable[[str], Trained], exported: Callable[[str], Path]
) -> None:
    made = trained('detection')
    found = metrics.measure(str(made.config), made.checkpoint, exported('detection'))
    assert found['config'] == str(made.config)
    assert 'coco/bbox_mAP' in found['file']
    metrics.check(found)


@pytest.mark.parametrize(
    ('checkpoint', 'file', 'is_good'),
    [
        (0.5, 0.5009, True),
        (0.5, 0.4985, False),
        (50.0, 50.09, True),  # percent
        (50.0, 50.11, False),
        (NAN, NAN, True),
        (NAN, 0.5, True),
        (0.5, NAN, False),
    ],
)
def test_how_far_they_may_differ(checkpoint: float, file: float, is_good: bool) -> None:
    found = {'checkpoint': {'mAP': checkpoint}, 'file': {'mAP': file}}
    if is_good:
        metrics.check(found)
        return
    with pytest.raises(InputError, match='--data: mAP of the checkpoint is .*, and .* of the file'):
        metrics.check(found)


def test_a_metric_that_is_missing() -> None:
    with pytest.raises(InputError, match='and nan of the file'):
        metrics.check({'checkpoint': {'mAP': 0.5}, 'file': {}})


@pytest.mark.slow
def test_they_stand_beside_the_file(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    made = trained('classification')
    out = export_checkpoint(made.checkpoint, out=tmp_path / 'a.onnx', data=str(made.config))
    about = json.loads(out.with_suffix('.json').read_text())
    assert about['metrics']['file'] == pytest.approx(about['metrics']['checkpoint'], abs=1e-4)


def test_a_backbone_has_none(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    made = trained('classification')
    with pytest.raises(InputError, match='--data: a backbone alone has no metrics'):
        export_checkpoint(made.checkpoint, backbone=True, data=str(made.config))
