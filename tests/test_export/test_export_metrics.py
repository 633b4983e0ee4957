"""The metrics of a checkpoint and of what was exported of it."""

import json
import math
import re
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
    with metrics.measuring(str(found_again)) as measure:
        paths = {'checkpoint': trained('detection').checkpoint, 'file': exported('detection')}
        found = {name: measure(path) for name, path in paths.items()}
    for name in ('coco/bbox_mAP', 'coco/segm_mAP'):
        assert found['checkpoint'][name] > 0.1
        assert found['file'][name] == pytest.approx(found['checkpoint'][name], abs=1e-3)
    assert metrics.problem(found, int8=False) is None


@pytest.mark.parametrize(
    ('checkpoint', 'file', 'is_good', 'is_good_in_8_bits'),
    [
        (0.5, 0.5009, True, True),
        (0.5, 0.4985, False, True),
        (0.5, 0.489, False, False),
        (0.5, 0.53, False, True),  # better
        (50.0, 50.09, True, True),  # percent
        (50.0, 50.11, False, True),
        (50.0, 48.9, False, False),
        (NAN, NAN, True, True),
        (NAN, 0.5, False, False),
        (0.5, NAN, False, False),
    ],
)
def test_how_far_they_may_differ(
    checkpoint: float, file: float, is_good: bool, is_good_in_8_bits: bool
) -> None:
    found = {'checkpoint': {'mAP': checkpoint}, 'file': {'mAP': file}}
    for int8, good in ((False, is_good), (True, is_good_in_8_bits)):
        problem = metrics.problem(found, int8)
        if good:
            assert problem is None
        else:
            assert re.fullmatch('mAP is .* of the checkpoint, .* of the file', problem)


def test_each_metric_has_its_unit() -> None:
    found = {'checkpoint': {'EPE': 8.3, 'PCK': 0.90}, 'file': {'EPE': 8.3, 'PCK': 0.89}}
    problem = metrics.problem(found, int8=False)
    assert problem == 'PCK is 0.9000 of the checkpoint, 0.8900 of the file'


def test_an_error_is_better_when_lower() -> None:
    for name, is_good in (('EPE', False), ('NME', False), ('AP', True)):
        found = {'checkpoint': {name: 0.3}, 'file': {name: 0.4}}
        assert (metrics.problem(found, int8=True) is None) == is_good


def test_a_metric_of_each_class() -> None:
    found = {'checkpoint': {'precision': [50.0, NAN]}, 'file': {'precision': [50.01, NAN]}}
    assert metrics.problem(found, int8=False) is None
    found = {'checkpoint': {'precision': [50.0, 2]}, 'file': {'precision': [50.0, 3]}}
    assert 'precision' in metrics.problem(found, int8=False)


def test_a_metric_that_is_missing() -> None:
    found = {'checkpoint': {'mAP': 0.5}, 'file': {}}
    assert 'nan of the file' in metrics.problem(found, int8=True)


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
