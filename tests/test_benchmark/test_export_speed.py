"""The table of exported networks: what is timed, and how it is told."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from trained import Trained

from scopevit.benchmark import export_speed
from scopevit.benchmark.export_speed import FORMS, make_report, measure
from scopevit.errors import InputError


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_speed, 'ROUNDS', 2)
    monkeypatch.setattr('scopevit.benchmark.timing.VISIT_SECONDS', 0.01)


def fail() -> Any:
    raise RuntimeError('no such operator')


def test_forms_take_turns_and_failures_are_told() -> None:
    forms = {name: (lambda: lambda: time.sleep(0.004)) for name in FORMS}
    forms['eager'] = lambda: lambda: time.sleep(0.012)
    forms['OpenVINO'] = fail
    case = measure('a network', (2, 8, 8, 3), forms)
    assert [m.form for m in case.measured] == [name for name in FORMS if name != 'OpenVINO']
    eager = next(m for m in case.measured if m.form == 'eager')
    assert len(eager.seconds) == 2
    assert eager.median >= 0.006  # an image, of two

    lines = make_report([case], {'processor': 'a fast one'}).splitlines()
    times = next(line for line in lines if line.startswith('| a network'))
    assert [bool(cell.strip()) for cell in times.strip('|').split('|')[1:]] == [
        name != 'OpenVINO' for name in FORMS
    ]
    assert any(line.startswith('- a network, OpenVINO: ') for line in lines)
    assert '| processor | a fast one |' in lines


def test_sessions_of_large_images_are_closed_after_each_turn() -> None:
    """One is open at a time, and PyTorch's two stay."""
    open_now: set[str] = set()
    stay = {'eager', 'compiled'}

    class Session:
        def __init__(self, form: str) -> None:
            self.form = form
            open_now.add(form)

        def __call__(self) -> None:
            assert open_now <= stay | {self.form}

        def __del__(self) -> None:
            open_now.discard(self.form)

    case = measure('large', (1, 1024, 1024, 3), {name: partial(Session, name) for name in FORMS})
    assert not case.failed
    assert {len(m.seconds) for m in case.measurements} == {2}


@pytest.mark.slow
def test_a_checkpoint_end_to_end(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    pytest.importorskip('openvino')
    made = trained('pose')
    given = made.checkpoint, str(made.images), export_speed.read_pixels(str(made.images)), tmp_path
    case = export_speed.measure_checkpoint(*given)
    told = {m.form: m.failed for m in case.measurements if m.failed}
    # Too few images for 8 bits.
    assert set(told) <= {'compiled', 'ONNX Runtime, 8 bits', 'OpenVINO, 8 bits'}
    assert '--int8 takes at least 8 images' in told['OpenVINO, 8 bits']
    ending = made.checkpoint.stem
    files = {path.name for path in tmp_path.iterdir() if path.suffix in ('.onnx', '.xml')}
    assert {name.endswith((f'{ending}.onnx', f'{ending}.xml')) for name in files} == {True}
    assert len(files) == 2
    again = export_speed.measure_checkpoint(*given)  # by the files that are there
    assert {m.form for m in again.measured} == {m.form for m in case.measured}


def test_goes_on_where_a_run_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip('openvino')
    made: list[tuple[int, ...]] = []

    def measure_network(*size: int) -> export_speed.Case:
        made.append(size)
        if len(made) == 2:
            raise KeyboardInterrupt
        forms = {'eager': lambda: lambda: time.sleep(0.001), 'OpenVINO': fail}
        return measure(export_speed.network_name(*size), (size[0], 8, 8, 3), forms)

    monkeypatch.setattr(export_speed, 'measure_network', measure_network)
    monkeypatch.setattr(export_speed, 'SIZES', ((1, 8, 8), (2, 8, 8)))
    with pytest.raises(KeyboardInterrupt):
        export_speed.run_export_speed([], [], str(tmp_path), None)
    first = (tmp_path / 'report.md').read_text()
    report = export_speed.run_export_speed([], [], str(tmp_path), None)
    assert made == [(1, 8, 8), (2, 8, 8), (2, 8, 8)]
    rows = [line for line in first.splitlines() if line.startswith('| ScopeViT-tiny, 8×8, batch 1')]
    assert len(rows) == 2 and set(rows) <= set(report.splitlines())
    assert report.count('no such operator') == 2

    # A run of something else shows that alone, and keeps the rest.
    monkeypatch.setattr(export_speed, 'SIZES', ((3, 8, 8),))
    assert 'batch 2' not in export_speed.run_export_speed([], [], str(tmp_path), None)
    kept = json.loads((tmp_path / 'report.json').read_text())['cases']
    assert [one['case'][-1] for one in kept] == ['1', '2', '3']
    there = export_speed.read_cases(tmp_path / 'report.json', {'processor': 'another'}, [])
    assert there == {}


def test_what_8_bits_change(tmp_path: Path) -> None:
    int8 = {'layers in 8 bits': 3, 'layers in float': ['a'], 'share of changed answers': 0.07}
    judged = {
        'checkpoint': {'AP': 0.5, 'AR': 0.25, 'EPE': 0.5},
        'file': {'AP': 0.51, 'AR': 0.2425, 'EPE': 0.505},
    }
    for ending, described in (('onnx', {'metrics': judged}), ('xml', {})):
        path = tmp_path / f'pose_best_int8.{ending}.json'
        path.write_text(json.dumps({'int8': int8, **described}))
    rows = export_speed.int8_rows(['runs/pose/best.pth', 'runs/other/best.pth'], tmp_path)
    assert rows == [
        ['pose', 'ONNX Runtime', '3 of 4', '7.0%', '-0.75 (AR)'],
        ['pose', 'OpenVINO', '3 of 4', '7.0%', 'not measured'],
    ]
    lines = make_report([], {'processor': 'a fast one'}, rows).splitlines()
    assert any(line.startswith('| pose') and '-0.75 (AR)' in line for line in lines)


@pytest.mark.parametrize(
    ('checkpoints', 'page', 'message'),
    [
        (['a.pth'], None, '--images: a folder for each checkpoint, 1, not 0'),
        ([], 'README.md', '--page: README.md'),
    ],
)
def test_bad_input(checkpoints: list[str], page: str | None, message: str, tmp_path: Path) -> None:
    pytest.importorskip('openvino')
    with pytest.raises(InputError, match=message):
        export_speed.run_export_speed(checkpoints, [], str(tmp_path / 'out'), page)
    assert not (tmp_path / 'out').exists()
