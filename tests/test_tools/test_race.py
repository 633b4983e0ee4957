"""tools/benchmark/race.py: every config with every seed, once; table and plot of the results."""

import json

import pytest

RACE = 'tools/benchmark/race.py'


@pytest.fixture
def config(make_task):
    task = make_task('classification')
    return task.config.rename(task.config.with_name('scopevit-mini_classification.py'))


@pytest.mark.slow
def test_runs_what_is_not_done_and_reports(config, process, fails, tmp_path):
    out = tmp_path / 'race'
    first = process(RACE, config, '--seeds', '5', '--out', out)
    assert first.returncode == 0, first.stderr[-2000:]
    assert '[1/1] scopevit-mini_classification, seed 5' in first.stdout
    folder = out / config.stem / 'seed5'
    assert 'seed: 5' in (folder / 'race.log').read_text()

    # Two more as if they had been run, and one that was not asked for.
    report = json.loads((folder / 'metrics.json').read_text())
    for seed, accuracy in ((3, 50.0), (4, 75.0), (9, 0.0)):
        other = out / config.stem / f'seed{seed}'
        other.mkdir()
        report['metrics']['accuracy/top1'] = accuracy
        (other / 'metrics.json').write_text(json.dumps(report))
        (other / 'race.json').write_text((folder / 'race.json').read_text())
    second = process(RACE, config, '--seeds', '3', '4', '3', '--out', out)
    assert second.returncode == 0, second.stderr[-2000:]
    assert '2 runs, 2 of them done' in second.stdout
    rows = [line for line in second.stdout.splitlines() if line.startswith('| scopevit-mini')]
    # the deviation of a sample: 12.5 * sqrt(2)
    assert [rows[0].split()[i] for i in (1, 7, 8, 9)] == ['scopevit-mini', '62.5', '±', '17.7']
    text = (out / 'README.md').read_text()
    assert rows[0] in text
    assert 'over the seeds 3, 4.' in text
    assert 'What it shows' not in text  # that is about the race of configs/race
    assert 'scopevit-mini' in (out / 'race.svg').read_text()
    assert (out / 'race.png').stat().st_size > 5000

    options = ['--cfg-options', 'train_cfg.max_epochs=2']
    line = fails('benchmark/race', config, '--seeds', '5', '--out', out, *options)
    assert line.startswith(f'error: {folder} holds a run with other settings: delete it, or')


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
        (['--jobs', '0'], "--jobs takes a whole number above 0, not '0'"),
    ],
)
def test_bad_arguments(arguments, message, fails, tmp_path):
    line = fails('benchmark/race', *arguments, '--out', tmp_path / 'race')
    assert line == f'error: {message}'
    assert not (tmp_path / 'race').exists()
