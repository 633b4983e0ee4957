"""The sums and the tables of the backbone's benchmark."""

import pytest

from scopevit.benchmark.backbone_table import (
    PEERS,
    Case,
    Measurement,
    case_table,
    exponent,
    growth,
    make_report,
    peers_table,
    yardsticks_text,
)


def measured(form, seconds, *, peak=None, size=(256, 256), batch=1, network='ScopeViT'):
    return Measurement(network, form, (batch, 3, *size), 4 * 10**9, seconds, peak)


def test_ratios_are_taken_round_by_round():
    base, fast = measured('plain', [4.0, 8.0, 2.0]), measured('eager', [2.0, 2.0, 2.0])
    assert fast.speedup(base) == (1.5, 2.0, 3.0)  # of 1, 2 and 4


def test_growth():
    assert exponent([1, 10, 100], [3, 300, 30000]) == pytest.approx(2)
    cases = [
        Case(f'inference-{side}x{side}-b1', [
            measured('plain', [side**4 * 1e-12], peak=side**4, size=(side, side)),
            measured('eager', [side**2 * 1e-9], size=(side, side)),
        ])
        for side in (128, 256, 512)
    ]  # fmt: skip
    plain, eager = growth(cases)
    assert (plain['form'], plain['sizes']) == ('plain', 3)
    assert plain['time'] == pytest.approx(2) and plain['memory'] == pytest.approx(2)
    assert eager['time'] == pytest.approx(1) and eager['memory'] is None
    assert growth(cases[:2]) == []


def test_table_of_a_case():
    case = Case('inference-256x256-b1', [
        measured('plain', [0.4] * 3, peak=40_000_000),
        measured('eager', [0.1, 0.08, 0.1], peak=10_000_000),
        measured('deployed+compiled', [0.05] * 3),
        Measurement('ScopeViT', 'bf16', (1, 3, 256, 256), 1, failed='RuntimeError: no'),
        measured('pure-bf16', [0.02] * 3, peak=5_000_000),
    ], {'float32': 400e9, 'bfloat16': 1600e9}, 20e9)  # fmt: skip
    lines = case_table(case).splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:6]]
    assert cells[0] == ['plain', '400', '1.00', '40.0', '1.00', '10.0', '2']
    assert cells[1] == ['eager', '100', '4.00 (4.00–4.50)', '10.0', '4.00', '40.0', '10']
    assert cells[2] == ['deployed+compiled', '50.0', '8.00', '', '', '80.0', '20']
    assert cells[3] == ['pure-bf16', '20.0', '20.0', '5.00', '8.00', '200', '12']
    assert lines[-1] == (
        'In the same rounds a product of matrices reached 400 GFLOP/s, in bfloat16 1600, and a '
        'copy 20.0 GB/s.'
    )
    case.product_rates.pop('bfloat16')
    assert yardsticks_text(case).endswith('reached 400 GFLOP/s and a copy 20.0 GB/s.')
    case.product_rates['bfloat16'] = 1600e9
    report = make_report([case], {}, {'cores': '2'})
    assert '- inference-256x256-b1, ScopeViT, bf16: RuntimeError: no' in report
    assert '| cores | 2     |' in report


def test_a_gpu_s_own_time_has_a_column():
    plain, eager = measured('plain', [0.4] * 3), measured('eager', [0.1] * 3)
    case = Case('inference-256x256-b1', [plain, eager], {'float32': 400e9}, 20e9)
    assert 'on the GPU' not in case_table(case)
    plain.gpu_seconds, eager.gpu_seconds = [0.3, 0.2, 0.25], [0.02, 0.04, 0.01]
    table = [line.split('|')[1:4] for line in case_table(case).splitlines()[:4]]
    cells = [[cell.strip() for cell in line] for line in table]
    assert cells[0] == ['form', 'ms', 'on the GPU (ms)']
    assert cells[2:] == [['plain', '400', '250'], ['eager', '100', '20.0']]
    assert case.describe()['measurements'][1]['median_gpu_seconds'] == 0.02


def test_table_of_the_peers():
    case = Case(PEERS, [
        measured('eager', [1.0], batch=8, network='slow'),
        measured('compiled', [0.8], batch=8, network='slow'),
        measured('eager', [0.4, 0.5, 0.32], batch=8, network='quick'),
        measured('compiled', [0.5], batch=8, network='quick'),
    ])  # fmt: skip
    rows = [line.split('|')[1:-1] for line in peers_table(case).splitlines()[2:]]
    rows = [[cell.strip() for cell in row] for row in rows]
    assert rows[0] == ['quick', '256×256', '0.250', '20.0', '20.0 (17.8–22.2)', 'eager']
    assert rows[1] == ['slow', '256×256', '0.250', '8.00', '10.0', 'compiled']
