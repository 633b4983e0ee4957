"""The metrics of a checkpoint and of what was exported of it."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from trained import Trained

from scopevit.errors import InputError
from scopevit.export import export_checkpoint, metrics
from scopevit.export.exported import description_of

NAN = math.nan


def test_both_go_through_the_test(
    trained: Callable[[str], Trained], exported: Callable[[str], Path], found_again: Path
) -> None:
    checkpoint, config = trained('detection').checkpoint, str(found_again)
    found = metrics.measure(config, checkpoint, exported('detection'))
    assert found['config'] == config
    for name in ('coco/bbox_mAP', 'coco/segm_mAP'):
        assert found['checkpoint'][name] > 0.1
        assert found['file'][name] == pytest.approx(found['checkpoint'][name], abs=1e-3)
    metrics.check(found)


@pytest.mark.parametrize(
    ('checkpoint', 'file', 'is_good'),
    [
        (0.5, 0.5009, True),
        (0.5, 0.4985, False),
        (50.0, 50.09, True),  # percent
        (50.0, 50.11, False),
        (NAN, NAN, True),
        (NAN, 0.5, False),
        (0.5, NAN, False),
    ],
)
def test_how_far_they_may_differ(checkpoint: float, file: float, is_good: bool) -> None:
    found = {'checkpoint': {'mAP': checkpoint}, 'file': {'mAP': file}}
    if is_good:
        metrics.check(found)
        return
    with pytest.raises(InputError, match='--data: mAP is .* of the checkpoint, .* of the file'):
        metrics.check(found)


def test_each_metric_has_its_unit() -> None:
    found = {'checkpoint': {'EPE': 8.3, 'PCK': 0.90}, 'file': {'EPE': 8.3, 'PCK': 0.89}}
    with pytest.raises(InputError, match='PCK is 0.9000 of the checkpoint, 0.8900 of the file'):
        metrics.check(found)


def test_a_metric_of_each_class() -> None:
    metrics.check({'checkpoint': {'precision': [50.0, NAN]}, 'file': {'precision': [50.01, NAN]}})
    with pytest.raises(InputError, match='precision'):
        metrics.check({'checkpoint': {'precision': [50.0, 2]}, 'file': {'precision': [50.0, 3]}})


def test_a_metric_that_is_missing() -> None:
    with pytest.raises(InputError, match='nan of the file'):
        metrics.check({'checkpoint': {'mAP': 0.5}, 'file': {}})


@pytest.mark.slow
def test_they_stand_beside_the_file(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    made = trained('classification')
    out = export_checkpoint(made.checkpoint, out=tmp_path / 'a.onnx', data=str(made.config))
    about = json.loads(description_of(out).read_text())
    assert about['metrics']['file'] == pytest.approx(about['metrics']['checkpoint'], abs=1e-4)


def test_a_backbone_has_none(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    made = trained('classification')
    with pytest.raises(InputError, match='--data: a backbone alone has no metrics'):
        export_checkpoint(made.checkpoint, backbone=True, data=str(made.config))


def test_a_config_that_is_not_there(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    made = trained('classification')
    with pytest.raises(InputError, match=r'none\.py'):
        export_checkpoint(made.checkpoint, out=tmp_path / 'a.onnx', data='none.py')
    assert not list(tmp_path.iterdir())
