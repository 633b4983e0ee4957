"""tools/benchmark/race.py: every config with every seed, once; table and plot of the results."""

import json

import pytest

RACE = 'tools/benchmark/race.py'


@pytest.fixture
def config(make_task):
    task = make_task('classification')
    return task.config.rename(task.config.with_name('scopevit-mini_classification.py'))


def test_runs_what_is_not_done_and_reports(config, process, tmp_path):
    out = tmp_path / 'race'
    for seed, accuracy in ((3, 50.0), (4, 75.0)):
        folder = out / config.stem / f'seed{seed}'
        folder.mkdir(parents=True)
        report = {'config': str(config), 'metrics': {'accuracy/top1': accuracy}}
        (folder / 'metrics.json').write_text(json.dumps(report))
    result = process(RACE, config, '--seeds', '3', '4', '5', '4', '--out', out)
    assert result.returncode == 0, result.stderr[-2000:]
    assert '3 runs, 2 of them done' in result.stdout
    assert '[1/1] scopevit-mini_classification, seed 5' in result.stdout
    report = json.loads((out / config.stem / 'seed5' / 'metrics.json').read_text())
    log = (out / config.stem / 'seed5' / 'race.log').read_text()
    assert 'seed: 5' in log
    row = next(line for line in result.stdout.splitlines() if line.startswith('| scopevit-mini'))
    name, _, _, accuracy, seeds = (cell.strip() for cell in row.strip('| ').split('|'))
    # of 50, 75 and what the third run reached: mean and deviation of the sample
    values = [50.0, 75.0, report['metrics']['accuracy/top1']]
    mean = sum(values) / 3
    deviation = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert (name, seeds) == ('scopevit-mini', '3')
    assert accuracy == f'{mean:.1f} ± {deviation:.1f}'
    assert row in (out / 'README.md').read_text()
    assert 'scopevit-mini' in (out / 'race.svg').read_text()
    assert (out / 'race.png').stat().st_size > 5000


def test_a_run_that_fails_is_one_line(config, process, tmp_path):
    out = tmp_path / 'race'
    options = ['--seeds', '0', '--cfg-options', 'model.head.num_classes=2']
    result = process(RACE, config, '--out', out, *options)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1 and lines[0].startswith('error: train.py stopped: ')
    assert lines[0].endswith(f'(log: {out / config.stem / "seed0" / "race.log"})')
    assert not (out / 'README.md').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nothing.py'], 'config not found: nothing.py'),
        (['--jobs', '0'], '--jobs must be at least 1, not 0'),
    ],
)
def test_bad_arguments(arguments, message, fails, tmp_path):
    line = fails('benchmark/race', *arguments, '--out', tmp_path / 'race')
    assert line == f'error: {message}'
    assert not (tmp_path / 'race').exists()
