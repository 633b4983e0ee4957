"""The backbone's benchmark: what it runs, its sums, its tables, and the tool."""

import json

import pytest
import torch

from scopevit.benchmark import backbone_speed
from scopevit.benchmark.backbone_speed import (
    DEFAULT_CASES,
    PEERS,
    Case,
    Measurement,
    case_table,
    default_forms,
    exponent,
    growth,
    make_report,
    measure,
    parse_case,
    peers_case,
    peers_table,
    update_page,
    visit,
)
from scopevit.benchmark.forms import (
    INFERENCE,
    TRAINING,
    Pass,
    check_form,
    make_backbone,
    tensors_of,
)
from scopevit.benchmark.plain import PlainScopeViT
from scopevit.errors import InputError

TOOL = 'benchmark/backbone_speed'
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def measured(form, seconds, *, peak=None, size=(256, 256), batch=1, network='ScopeViT'):
    return Measurement(network, form, (batch, 3, *size), 4 * 10**9, seconds, peak)


# Forms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', DEFAULT_CASES)
def test_default_forms_suit_their_cases(name):
    mode = INFERENCE if name == PEERS else parse_case(name)[0]
    for form in default_forms(name):
        check_form(form, mode)


@pytest.mark.parametrize(
    'form, mode, words',
    [
        ('fast', INFERENCE, 'plain, eager'),
        ('bf16+bf16', INFERENCE, 'joined by'),
        ('plain+deployed', INFERENCE, 'do not go together'),
        ('deployed', TRAINING, 'no training'),
        ('checkpointed+bf16', INFERENCE, 'no inference'),
    ],
)
def test_unknown_forms_are_refused(form, mode, words):
    with pytest.raises(InputError, match=words):
        check_form(form, mode)


def test_every_form_gives_the_same_maps():
    reference = tensors_of(Pass(make_backbone('plain', 'xtiny'), 'plain', INFERENCE, IMAGES)())
    for form, tolerance in (('eager', 1e-5), ('channels-last', 1e-5), ('deployed', 1e-5),
                            ('deployed+channels-last', 1e-5), ('bf16', 0.05)):  # fmt: skip
        outs = tensors_of(Pass(make_backbone(form, 'xtiny'), form, INFERENCE, IMAGES)())
        for a, b in zip(outs, reference, strict=True):
            assert (a - b).abs().max() < tolerance * b.abs().max(), form


def test_what_a_form_is():
    assert isinstance(make_backbone('plain', 'xtiny'), PlainScopeViT)
    assert make_backbone('deployed+bf16', 'xtiny').deploy
    run = Pass(make_backbone('checkpointed', 'xtiny'), 'checkpointed', TRAINING, IMAGES)
    assert run.module.training and run.module.stages[0].blocks[0].with_cp
    run()
    assert all(p.grad is not None for p in run.module.parameters())


# Sums ---------------------------------------------------------------------------------------------


def test_names_of_cases():
    assert parse_case('inference-800x1333-b1') == ('inference', (800, 1333), 1)
    assert parse_case('training-64x96-b16') == ('training', (64, 96), 16)
    for name in ('inference-64-b1', 'inference-64x64', 'test-64x64-b1', 'inference-64x64-b0'):
        with pytest.raises(InputError, match=f'inference-512x512-b1.*not {name!r}'):
            parse_case(name)


def test_ratios_are_taken_round_by_round():
    base, fast = measured('plain', [4.0, 8.0, 2.0]), measured('eager', [2.0, 2.0, 2.0])
    assert fast.speedup(base) == (1.5, 2.0, 3.0)  # of 1, 2 and 4


def test_growth():
    assert exponent([1, 10, 100], [3, 300, 30000]) == pytest.approx(2)
    cases = [
        Case(f'inference-{side}x{side}-b1', [
            measured('plain', [side**4 * 1e-12], peak=side**4, size=(side, side)),
            measured('eager', [side**2 * 1e-9], size=(side, side)),
        ], 1.0, 1.0)
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
        measured('eager', [0.1] * 3, peak=10_000_000),
        measured('deployed+compiled', [0.05] * 3),
        Measurement('ScopeViT', 'bf16', (1, 3, 256, 256), 1, failed='RuntimeError: no'),
    ], 400e9, 20e9)  # fmt: skip
    lines = case_table(case).splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:5]]
    assert cells[0] == ['plain', '400', '1.00 (1.00–1.00)', '40.0', '1.00', '10.0', '2']
    assert cells[1] == ['eager', '100', '4.00 (4.00–4.00)', '10.0', '4.00', '40.0', '10']
    assert cells[2] == ['deployed+compiled', '50.0', '8.00 (8.00–8.00)', '', '', '80.0', '20']
    assert lines[-1].endswith('400 GFLOP/s and a copy 20.0 GB/s.')
    report = make_report([case], {}, {'cores': '2'})
    assert '- inference-256x256-b1, ScopeViT, bf16: RuntimeError: no' in report
    assert '| cores | 2     |' in report


def test_table_of_the_peers():
    case = Case(PEERS, [
        measured('eager', [1.0], batch=8, network='slow'),
        measured('compiled', [0.8], batch=8, network='slow'),
        measured('eager', [0.4], batch=8, network='quick'),
        measured('compiled', [0.5], batch=8, network='quick'),
    ], 1.0, 1.0)  # fmt: skip
    rows = [line.split('|')[1:-1] for line in peers_table(case).splitlines()[2:]]
    rows = [[cell.strip() for cell in row] for row in rows]
    assert rows[0] == ['quick', '256×256', '0.250', '20.0', '20.0 (20.0–20.0)', 'eager']
    assert rows[1] == ['slow', '256×256', '0.250', '8.00', '10.0 (10.0–10.0)', 'compiled']


def test_a_visit_is_the_median_of_its_runs(monkeypatch):
    clock = iter([0, 9, 10, 10.1, 20, 20.4, 30, 30.2])  # the first run is not counted
    monkeypatch.setattr(backbone_speed.time, 'perf_counter', lambda: next(clock))
    monkeypatch.setattr(backbone_speed, 'VISIT_SECONDS', 0.5)
    assert visit(lambda: None) == 9  # more than ten visits
    assert visit(lambda: None) == pytest.approx(0.3)
    assert next(clock, None) is None


def test_what_fails_does_not_stop_the_others(monkeypatch):
    monkeypatch.setattr(backbone_speed, 'VISIT_SECONDS', 1e-3)
    monkeypatch.setattr(backbone_speed, 'MIN_ROUNDS', 2)

    def broken():
        raise RuntimeError('no kernel\nmore')

    def sound():
        return Pass(make_backbone('eager', 'xtiny'), 'eager', INFERENCE, IMAGES)

    candidates = [(measured('bf16', []), broken), (measured('eager', []), sound)]
    case = measure('here', candidates, 'cpu')
    assert case.measurements[0].failed == 'RuntimeError: no kernel'
    assert len(case.measurements[1].seconds) == 2 and case.measurements[1].peak_bytes > 0
    assert case.product_rate > 0 < case.copy_rate


def test_peers_are_the_recipes_of_the_table(monkeypatch, tmp_path):
    monkeypatch.setattr(backbone_speed, 'VISIT_SECONDS', 1e-3)
    monkeypatch.setattr(backbone_speed, 'MIN_ROUNDS', 1)
    monkeypatch.setattr(backbone_speed, 'PEER_BATCH_SIZE', 1)
    table = tmp_path / 'published.yml'
    row = '{system: %s, params: 1, gflops: 1, resolution: 224, top1: 70, venue: x, config: %s}'
    configs = ('scopevit-xtiny_8xb128_in1k', 'deit-small_8xb128_in1k', 'null')
    rows = [f'- {row % (name, config)}\n' for name, config in zip('ABC', configs)]
    table.write_text(''.join(rows))
    case = peers_case(('eager', 'deployed', 'deployed+bf16'), str(table), 'cpu')
    found = [(m.network, m.form, m.shape[0]) for m in case.measurements]
    assert found == [
        ('A', 'eager', 1), ('A', 'deployed', 1), ('A', 'deployed+bf16', 1),
        ('B', 'eager', 1), ('B', 'bf16', 1),
    ]  # fmt: skip
    assert not any(m.failed for m in case.measurements)
    assert case.measurements[0].operations == pytest.approx(2 * 1.431e9, rel=1e-3)


# The page and the tool ----------------------------------------------------------------------------


def test_the_page_keeps_what_is_around_the_tables(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('before\n<!-- measured -->\nold\n<!-- end of measured -->\nafter\n')
    update_page(str(page), 'new\n')
    update_page(str(page), 'newer\n')
    assert page.read_text() == (
        'before\n<!-- measured -->\n\nnewer\n\n<!-- end of measured -->\nafter\n'
    )


def test_the_tool(process, tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('<!-- measured -->\n<!-- end of measured -->\n')
    done = process(
        'tools/benchmark/backbone_speed.py', '--arch', 'xtiny', '--out', tmp_path / 'out',
        '--page', page, '--cases', 'inference-64x64-b1', 'training-64x64-b2',
        '--forms', 'plain', 'eager',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '## training-64x64-b2' in done.stdout and done.stdout.strip() in page.read_text()
    content = json.loads((tmp_path / 'out/backbone_speed.json').read_text())
    assert content == json.loads(page.with_suffix('.json').read_text())
    assert content['arch'] == 'xtiny' and content['machine']['torch'] == torch.__version__
    for case, operations in zip(content['cases'], (2, 6 * 2)):
        forms = {m['form']: m for m in case['measurements']}
        assert list(forms) == ['plain', 'eager']
        assert forms['plain']['times_as_fast_as_plain'] == [1, 1, 1]
        assert len(forms['eager']['seconds']) == backbone_speed.MIN_ROUNDS
        # 89 M multiply-adds of an image of 64x64 (1431 M of 256x256, and less attention).
        assert 80e6 < forms['eager']['operations'] / operations < 95e6


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--cases', 'everything'], 'inference-512x512-b1'),
        (['--forms', 'quick'], "not 'quick'"),
        (['--cases', 'training-64x64-b1', '--forms', 'deployed'], 'no training'),
        (['--arch', 'huge'], '--arch: arch must be one of'),
        (['--page', 'nowhere.md'], 'nowhere.md'),
        (['--cases', 'inference-31x64-b1'], '32 pixels'),
        (['--cases', 'inference-64x64-b1', '--profile'], 'inference-256x256-b8'),
        (['--published', 'nowhere.yml'], 'nowhere.yml'),
    ],
)
def test_wrong_arguments(fails, arguments, words, tmp_path):
    out = tmp_path / 'out'
    assert words in fails(TOOL, '--out', out, *arguments)
    assert not out.exists()


def test_a_page_without_a_place_for_the_tables(fails, tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('# Page\n')
    line = fails(TOOL, '--out', tmp_path / 'out', '--page', page)
    assert str(page) in line and '<!-- measured -->' in line
