"""What checkpoints and checks cost: shares of known times, steps without the checks, bad input."""

import json
from pathlib import Path
from typing import Any

import mmengine.config.config
import pytest
import torch
from mini import MINI
from mmengine.hooks import CheckpointHook

from scopevit.benchmark import reliability_cost
from scopevit.benchmark.reliability_cost import (
    BEGIN,
    CHECKS,
    END,
    WAYS,
    Costs,
    Saves,
    Training,
    make_report,
    run_reliability_cost,
)
from scopevit.errors import InputError

ROOT = Path(__file__).parents[2]
RECIPE = str(ROOT / 'configs/classification/scopevit-tiny_8xb128-ema_in1k.py')
DETECTOR = str(ROOT / 'configs/detection/retinanet_scopevit-tiny_fpn_1x_coco.py')
SMALL = {'model.backbone.arch': dict(MINI, _delete_=True), 'model.head.in_channels': 32}


def cells(report: str, start: str) -> list[str]:
    line = next(line for line in report.splitlines() if line.startswith(f'| {start} '))
    return [cell.strip() for cell in line.strip('|').split('|')[1:]]


def test_report_of_times_that_somebody_worked_out() -> None:
    costs = Costs(
        checked=[1.0, 2.04, 3.0],
        plain=[1.0, 2.0, 3.0],
        calls={'signals': [1e-3, 2e-3, 9e-3], '`--watchdog`': [4e-3] * 3},
        # 50 steps of 2 s, to which one save adds 0.5 + 2.5 - 2, the other 0.5 + 1.5 - 2
        saves={'at once': Saves([0.5] * 2, [2.5] * 2, [2.0] * 2),
               'beside': Saves([0.5] * 2, [1.5] * 2, [2.0] * 2)},
        checkpoint_bytes=12_300_000,
    )  # fmt: skip
    report = make_report(costs, 'a-recipe', 8, 128, {'processor': 'a fast one'})
    assert 'a-recipe, steps of 8 images, of which the recipe has 128, on cpu' in report
    assert '2.00 (1.50–2.50) s a step without the checks' in report
    assert 'a step takes 1.00 (1.00–1.01) times as long' in report
    assert cells(report, 'signals') == ['2000', '0.10']
    assert cells(report, '`--watchdog`') == ['4000', '0.20']
    assert cells(report, 'together') == ['6000', '0.30']
    assert 'A checkpoint has 12.3 MB.' in report
    assert cells(report, 'at once') == ['500', '1.25', '1.00']
    assert cells(report, 'beside') == ['500', '0.750', '0.00']
    assert '| processor | a fast one |' in report
    assert 'of which' not in make_report(costs, 'a-recipe', 128, 128, {})


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in dict(PAIRS=2, SAVES=2, CALLS=3).items():
        monkeypatch.setattr(reliability_cost, name, value)


def test_a_recipe(tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    formatted = []
    format_code = mmengine.config.config.FormatCode

    def count(*args: Any, **kwargs: Any) -> Any:
        formatted.append(1)
        return format_code(*args, **kwargs)

    monkeypatch.setattr('mmengine.config.config.FormatCode', count)
    page, out = tmp_path / 'page.md', tmp_path / 'out'
    page.write_text(f'# Page\n\n{BEGIN}\nold\n{END}\n\nafter\n')
    report = run_reliability_cost(RECIPE, 2, str(out), str(page), SMALL)
    assert page.read_text() == f'# Page\n\n{BEGIN}\n{report}\n{END}\n\nafter\n'
    assert sorted(path.name for path in out.iterdir()) == ['report.json', 'report.md']
    told = json.loads((out / 'report.json').read_text())
    assert len(told['checked']) == len(told['plain']) == 2
    assert all(seconds > 0 for seconds in told['checked'] + told['plain'])
    assert {len(seconds) for seconds in told['calls'].values()} == {3}
    assert list(told['saves']) == list(WAYS)
    for saves in told['saves'].values():
        assert {len(seconds) for seconds in saves.values()} == {2}
    assert told['checkpoint_bytes'] > 0
    # for the log, the visualizer and the work dir, and for none of six checkpoints
    assert len(formatted) == 3


def test_steps_with_the_checks_and_without(
    tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(training: Training, costs: Costs) -> None:
        runner, step = training.runner, training.runner.train_loop.run_iter

        def run_iter(*args: Any) -> None:
            seen.append((set(map(type, runner.hooks)), 'parse_losses' in vars(runner.model)))
            step(*args)

        runner.train_loop.run_iter = run_iter
        before = runner.iter
        training.step(True)
        training.step(False)
        assert runner.iter == before + 2
        # A loss that is no number passes without the checks alone.
        head = runner.model.head
        monkeypatch.setattr(head.loss_module, 'loss_weight', torch.inf)
        training.step(False)
        with pytest.raises(InputError, match='the loss is nan'):
            training.step(True)
        costs.checked, costs.plain, costs.calls = [1.0], [1.0], {}

    monkeypatch.setattr(reliability_cost, 'measure_steps', look)
    for name in ('measure_calls', 'measure_saves'):
        monkeypatch.setattr(reliability_cost, name, lambda *args: None)
    run_reliability_cost(RECIPE, 2, str(tmp_path / 'out'), None, SMALL)
    (checked, is_checked), (plain, is_plain) = seen[:2]
    assert checked - plain == set(CHECKS) and not plain - checked
    assert is_checked and not is_plain
    assert not any(issubclass(kind, CheckpointHook) for kind in checked)


@pytest.mark.parametrize(
    ('config', 'page', 'message'),
    [
        (RECIPE, 'README.md', '--page: README.md has no <!-- costs measured'),
        (DETECTOR, None, 'drawn images have classes alone'),
        ('none.py', None, 'config not found: none.py'),
    ],
)
def test_bad_input(config: str, page: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_reliability_cost(config, 2, str(tmp_path / 'out'), page)
    assert not (tmp_path / 'out').exists()
