"""The table of operators: what is timed, and how it is told."""

import time
from pathlib import Path

import pytest
import torch

from scopevit.benchmark import operator_speed
from scopevit.benchmark.operator_speed import PAIRS, Pair, measure, operator_table
from scopevit.errors import InputError


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_speed, 'ROUNDS', 2)
    monkeypatch.setattr('scopevit.benchmark.timing.VISIT_SECONDS', 0.01)


def double(x: torch.Tensor, seconds: float = 0.0) -> torch.Tensor:
    time.sleep(seconds)
    return 2 * x


def test_both_take_turns_and_failures_are_told() -> None:
    def refuse_gradients(x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad:
            raise RuntimeError('no gradient')
        return double(x, 0.002)

    pair = Pair('twice', 'us', lambda x: double(x, 0.01), refuse_gradients, (torch.ones(2, 3),))
    assert measure(pair, 'cpu') == ['forward and backward, us: RuntimeError: no gradient']
    ours, others = pair.seconds['forward']
    assert set(pair.seconds) == {'forward'} and len(ours) == len(others) == 2
    assert min(ours) >= 0.01 and min(others) >= 0.002


def test_ratios_are_taken_round_by_round() -> None:
    pair = Pair('twice', 'us', double, double, (torch.ones(2, 3),))
    pair.seconds['forward'] = ([0.002, 0.006, 0.009], [0.001, 0.004, 0.009])
    row = operator_table([pair]).splitlines()[2]
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells == ['twice', '2×3', 'forward', 'us', '4.00', '6.00', '1.50 (1.25–1.75)']


@pytest.mark.parametrize('name', PAIRS)
def test_pairs_compute_alike(name: str) -> None:
    torch.manual_seed(0)
    pair = PAIRS[name]()
    if name.startswith('roi'):
        rois = pair.inputs[1][:4].div(4).floor() * 4
        rois[:, 0] = pair.inputs[1][:4, 0]
        ours = theirs = (pair.inputs[0][:, :2], rois)
        if name == 'roi_pool':
            # Of stride 4, torchvision's end in pixel x / 4, mmcv's where pixel (x + 1) / 4 begins.
            ours = ours[0], rois + torch.tensor([0, 0, 0, 3, 3])
    elif name == 'ms_deform_attn':
        value, points, weights = pair.inputs
        fewer = (value[:, :, :2, :4], points[:, :9, :2], weights[:, :9, :2])
        ours = theirs = tuple(x.contiguous() for x in fewer)
    else:
        ours = theirs = tuple(
            x[:1, :, :9, :9] if x.dim() == 4 and x.shape[-1] > 9 else x for x in pair.inputs
        )
    torch.testing.assert_close(pair.ours(*ours), pair.yardstick(*theirs))


def test_what_is_wrong_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='--operators deform: choose from deform_conv2d, '):
        operator_speed.run_operator_speed(['deform'], 'cpu', str(tmp_path), None)
    page = tmp_path / 'page.md'
    page.write_text('no marks\n')
    with pytest.raises(InputError, match='page.md'):
        operator_speed.run_operator_speed([], 'cpu', str(tmp_path), str(page))


def test_page_report_and_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = {'twice': lambda: Pair('twice', 'us', double, double, (torch.ones(2),))}
    monkeypatch.setattr(operator_speed, 'PAIRS', twice)
    page = tmp_path / 'page.md'
    page.write_text('before\n<!-- operators measured -->\nold\n<!-- end of operators -->\nafter\n')
    out = tmp_path / 'out'
    report = operator_speed.run_operator_speed([], 'cpu', str(out), str(page))
    assert report == (out / 'report.md').read_text() and '| twice ' in report
    text = page.read_text()
    assert text.startswith('before\n') and text.endswith('after\n') and report in text
    assert '"forward and backward"' in (out / 'report.json').read_text()
