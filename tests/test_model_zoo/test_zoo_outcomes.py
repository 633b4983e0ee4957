"""Whatever a config does, the run goes on and says what it was."""

import json

import pytest

from scopevit.errors import InputError
from scopevit.model_zoo import processes
from scopevit.model_zoo.processes import HUNG, TOO_LONG, Limits, run_each
from scopevit.model_zoo.results import Results
from scopevit.model_zoo.run import choose, try_all

LIMITS = Limits(seconds=240, gib=16)


@pytest.fixture
def outcomes(tmp_path):
    """A function that tries configs and returns what is known of them in the end."""

    def run(*files, retry=False, limits=LIMITS):
        results = Results(tmp_path / 'results.jsonl', {'torch': '2'})
        try_all(files, results, retry, 1, limits)
        again = Results(tmp_path / 'results.jsonl', {'torch': '2'})
        assert again.tried.keys() == results.tried.keys()
        return {name: tried.outcome for name, tried in again.tried.items()}

    return run


@pytest.mark.parametrize(
    ('how', 'kind', 'what', 'step'),
    [
        ('works', 'works', '', ''),
        ('operator', 'operator', 'no_such_operator', 'loss'),
        ('package', 'package', 'no_such_package', 'loss'),
        ('memory', 'other', 'needs more memory than --memory allows', 'loss'),
        ('network', 'other', '', 'loss'),
        ('raise', 'other', '', 'loss'),
        ('no number', 'other', '', 'loss'),
        ('no gradient', 'other', '', 'loss'),
        ('predicts nothing', 'other', '', 'predict'),
        ('crash', 'other', '', ''),
        ('exit', 'other', '', ''),
    ],
)
def test_each_way_to_fail_is_told(config, outcomes, how, kind, what, step):
    reasons = {
        'network': "ConnectionRefusedError: the model wants to connect to ('127.0.0.1', 9)",
        'raise': "KeyError: 'key'",
        'no number': 'Unfit: the loss is no number',
        'no gradient': 'Unfit: the loss reaches no parameter',
        'predicts nothing': 'Unfit: predicts NoneType, no list of samples',
        'crash': 'died of SIGKILL',
        'exit': 'died with exit code 3',
    }
    [outcome] = outcomes(config(how)).values()
    assert (outcome.kind, outcome.what, outcome.step) == (kind, what, step)
    assert how not in reasons or outcome.reason == reasons[how]


def test_one_that_hangs_is_ended(config, outcomes):
    [outcome] = outcomes(config('hang'), limits=Limits(seconds=0.1, gib=16)).values()
    assert (outcome.kind, outcome.reason) == ('other', HUNG)


def test_one_that_computes_for_too_long_is_ended(config, outcomes, monkeypatch):
    monkeypatch.setattr(processes, 'PATIENCE', 1000)
    [outcome] = outcomes(config('compute'), limits=Limits(seconds=1, gib=16)).values()
    assert (outcome.kind, outcome.reason) == ('other', TOO_LONG)


def test_a_config_without_a_model_is_left_out(config, outcomes):
    file = config('works')
    file.path.write_text("default_scope = 'mmseg'\ntrain_cfg = dict()\n")
    [outcome] = outcomes(file).values()
    assert (outcome.kind, outcome.reason) == ('left out', 'has no model of its own')


def test_a_config_that_cannot_be_read_is_told(config, outcomes):
    file = config('works')
    file.path.write_text("_base_ = 'nowhere.py'\n")
    [outcome] = outcomes(file).values()
    assert (outcome.kind, outcome.step) == ('other', 'read')
    assert 'nowhere.py' in outcome.reason


def test_the_rest_is_tried_after_a_crash_and_a_run_goes_on(config, outcomes):
    files = [config('crash'), config('works'), config('raise')]
    first = outcomes(*files[:2])
    assert [outcome.kind for outcome in first.values()] == ['other', 'works']
    files[1].path.unlink()  # what is known is not tried again
    later = outcomes(*files)
    assert [outcome.kind for outcome in later.values()] == ['other', 'works', 'other']


def test_retry_tries_what_did_not_work(config, outcomes):
    works, mended = config('works'), config('raise')
    outcomes(works, mended)
    works.path.unlink()
    mended.path.write_text(mended.path.read_text().replace("'raise'", "'mended'"))
    assert [outcome.kind for outcome in outcomes(works, mended).values()] == ['works', 'other']
    later = outcomes(works, mended, retry=True)
    assert [outcome.kind for outcome in later.values()] == ['works', 'works']


def test_two_with_one_model_are_tried_once(config, outcomes):
    first = config('works', 'one', 'train_cfg = dict(max_epochs=12)\n')
    second = config('works', 'two', 'train_cfg = dict(max_epochs=24)\n')
    other = config('raise', 'two')
    found = outcomes(first, second, other)
    assert [outcome.same_as for outcome in found.values()] == ['', 'mmseg/one/works.py', '']
    assert [outcome.kind for outcome in found.values()] == ['works', 'works', 'other']


def test_results_of_other_versions_are_refused(tmp_path):
    path = tmp_path / 'results.jsonl'
    Results(path, {'torch': '2.14', 'numpy': '2.3'})
    with pytest.raises(InputError, match=r'other versions did \(torch\): name another folder'):
        Results(path, {'torch': '2.15', 'numpy': '2.3'})


@pytest.mark.parametrize('text', ['[]\n', 'x\n', '{"versions": {}}\n{"kind": "works"}\n', ''])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / 'results.jsonl'
    path.write_text(text)
    with pytest.raises(InputError, match='is no file of results'):
        Results(path, {})
    assert path.read_text() == text


def test_half_a_line_is_forgotten(tmp_path, config, outcomes):
    outcomes(config('works'))
    path = tmp_path / 'results.jsonl'
    with path.open('a') as stream:
        stream.write('{"config": "mmseg/family/rai')
    assert len(outcomes(config('works'), config('raise'))) == 2
    assert [json.loads(line).get('kind') for line in path.read_text().splitlines()] == [
        None, 'works', 'other'
    ]  # fmt: skip


def test_unknown_families_are_refused(config):
    with pytest.raises(InputError, match="--families: no folder 'fcos'; there are a, b"):
        choose([config('works', 'a'), config('works', 'b')], ['fcos'], False)


def test_processes_are_ended_with_their_caller():
    results = run_each(lambda task: task * 2, [1, 2, 3], 2, LIMITS)
    ended = next(results)
    assert ended.result == 2 * ended.task
    results.close()
    assert sorted(each.result for each in run_each(lambda task: -task, [1, 2], 2, LIMITS)) == [
        -2,
        -1,
    ]
