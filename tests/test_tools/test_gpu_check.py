"""tools/gpu/check.py on the CPU: its steps find what is wrong, and none hides what others find."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from marks import rest_is_slow

from scopevit.errors import InputError

GPU = Path(__file__).parents[2] / 'tools' / 'gpu'
PREDICTED = 'peak memory predicted, AMP (GiB)'
# Steps that go wrong in every way that a process has.
FAULTS = '''
import os, subprocess, sys, time

def sound(device, findings):
    findings.table('Found', ['what', 'how many'], [['devices', device]])

def wrong(device, findings):
    findings.problem('2 + 2 is 5')

def raises(device, findings):
    findings.note('got this far')
    raise RuntimeError('no kernel')

def crashes(device, findings):
    os.abort()

def hangs(device, findings):
    findings.table('Before it hung', ['what'], [['this']])
    subprocess.Popen([sys.executable, '-c', LAUNCHER])
    time.sleep(600)

# As torchrun: what it starts has a session of its own, and ends when it is told to end.
LAUNCHER = """
import os, signal, subprocess, sys
child = subprocess.Popen(['sleep', '600'], start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: (child.kill(), child.wait(), sys.exit()))
with open(os.environ['PID_FILE'], 'w') as file:
    file.write(str(child.pid))
signal.pause()
"""

def scribbles(device, findings):
    findings.path.write_text('{"pages"')

def meet(findings, other):
    (findings.path.parent / 'here').touch()
    there = findings.path.parent.parent / other / 'here'
    for _ in range(300):
        if there.exists():
            return
        time.sleep(0.1)
    findings.problem(f'{other} did not run at the same time')

def first(device, findings):
    meet(findings, 'second')

def second(device, findings):
    meet(findings, 'first')

def measures(device, findings):
    folders = [path.parent.name for path in findings.path.parent.parent.glob('*/here')]
    findings.table('Before it', ['what'], [[name] for name in sorted(folders)])

def never(device, findings):
    findings.problem('it ran')
'''


@pytest.fixture
def check(load, monkeypatch, tmp_path) -> ModuleType:
    """The check, in whose processes there is a module `faults`."""
    (tmp_path / 'faults.py').write_text(FAULTS)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv('PID_FILE', str(tmp_path / 'pid'))
    return load('check')


def run(
    check: ModuleType,
    out: Path,
    limits: dict[str, float],
    minutes: float = 1,
    device: str = 'cpu',
    measuring: Sequence[str] = (),
) -> dict:
    """Runs functions of `faults` as steps; returns what the JSON file has, by step."""
    steps = tuple(
        check.Step(n, n.upper(), f'faults.{n}', limit, n in measuring)
        for n, limit in limits.items()
    )
    try:
        said = check.check(steps, device, str(out), minutes)
    except InputError as error:
        said = str(error)
    content = json.loads((out / 'gpu.json').read_text())['steps']
    bad = [name for name in limits if content[name]['problems']]
    expected = f'problems in {len(bad)} of {len(limits)} steps: {", ".join(bad)}; '
    assert said.startswith(expected if bad else 'no problem found')
    left_out = [name for name in limits if content[name]['seconds'] is None]
    assert (f'no time was left for {", ".join(left_out)}' in said) == bool(left_out)
    return content


def test_no_fault_hides_what_others_find(check, tmp_path):
    names = ('wrong', 'raises', 'crashes', 'scribbles', 'sound')
    steps = run(check, tmp_path, dict.fromkeys(names, 60))
    page = (tmp_path / 'gpu.md').read_text()
    assert tuple(steps) == names
    assert steps['wrong']['problems'] == ['2 + 2 is 5']
    assert steps['raises']['notes'] == ['got this far']
    (line,) = steps['raises']['problems']
    assert line == 'exit code 1; it said last: RuntimeError: no kernel'
    assert steps['crashes']['problems'] == ['killed by SIGABRT; it said last: nothing']
    assert 'cannot be read' in steps['scribbles']['problems'][0]
    assert steps['sound']['figures'] == {'Found': [{'what': 'devices', 'how many': 'cpu'}]}
    assert '| SOUND' in page and '| devices |      cpu |' in page
    assert '- raises: exit code 1; it said last: RuntimeError: no kernel\n' in page
    # The end of the log, where the trace is.
    assert 'in raises\n    raise RuntimeError' in page.partition('log of raises')[2]


def test_what_hangs_is_stopped_with_all_that_it_started(check, tmp_path):
    begin = time.monotonic()
    steps = run(check, tmp_path, {'hangs': 8, 'sound': 60})
    assert time.monotonic() - begin < 60
    (line,) = steps['hangs']['problems']
    assert line.startswith('stopped after 8 s')
    assert steps['hangs']['figures'] and not steps['sound']['problems']
    pid = int((tmp_path / 'pid').read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


# A terminal that is closed, `kill`, and what run.sh passes on.
@pytest.mark.parametrize('number', rest_is_slow([signal.SIGTERM, signal.SIGHUP]))
def test_a_signal_ends_the_step_and_all_that_it_started(check, tmp_path, number):
    program = """if True:
        import sys
        import check
        check.STEPS = (check.Step('hangs', 'HANGS', 'faults.hangs', 300),)
        check.main(['--device', 'cpu', '--out', sys.argv[1]])
    """
    paths = os.pathsep.join([str(GPU), os.environ['PYTHONPATH']])
    process = subprocess.Popen(
        [sys.executable, '-c', program, tmp_path / 'out'],
        env={**os.environ, 'PYTHONPATH': paths},
        stderr=subprocess.DEVNULL,
    )
    pid_file = tmp_path / 'pid'
    deadline = time.monotonic() + 60
    while not (pid_file.is_file() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), signal.SIGCONT)


def test_on_a_gpu_those_that_measure_nothing_run_at_once_and_first(check, tmp_path, monkeypatch):
    monkeypatch.setattr(check, 'check_device', lambda device: None)
    monkeypatch.setattr(check.os, 'sched_getaffinity', lambda pid: range(16))
    limits = dict.fromkeys(('measures', 'first', 'second'), 60)
    steps = run(check, tmp_path, limits, device='cuda', measuring=['measures'])
    assert list(steps) == ['measures', 'first', 'second']
    assert not any(step['problems'] for step in steps.values())
    assert steps['measures']['figures'] == {'Before it': [{'what': 'first'}, {'what': 'second'}]}


def test_steps_for_which_no_time_is_left_are_named(check, tmp_path):
    steps = run(check, tmp_path, {'never': 60, 'sound': 60}, minutes=0.01)
    for step in steps.values():
        assert (step['seconds'], step['problems']) == (None, [])
    assert 'not run: no time was left' in (tmp_path / 'gpu.md').read_text()


def test_findings_of_an_earlier_run_do_not_count(check, tmp_path):
    steps = run(check, tmp_path, {'wrong': 60})
    assert steps['wrong']['problems'] == ['2 + 2 is 5']
    steps = run(check, tmp_path, {'wrong': 60}, minutes=0.01)
    assert (steps['wrong']['seconds'], steps['wrong']['problems']) == (None, [])


def test_a_check_that_is_stopped_leaves_no_earlier_report(check, tmp_path, monkeypatch):
    run(check, tmp_path, {'wrong': 60})

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, 'run_step', interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(check, tmp_path, {'sound': 60})
    assert '2 + 2 is 5' not in (tmp_path / 'gpu.md').read_text()
    assert json.loads((tmp_path / 'gpu.json').read_text())['steps'] == {}


@pytest.mark.parametrize('kind', ['file', 'link'])
def test_what_others_have_in_the_place_of_a_step_stays(check, tmp_path, kind):
    mine, place = tmp_path / 'mine', tmp_path / 'out' / 'gpu_steps' / 'wrong'
    mine.mkdir()
    (mine / 'log.txt').write_text('mine')
    place.parent.mkdir(parents=True)
    place.write_text('mine') if kind == 'file' else place.symlink_to(mine)
    with pytest.raises(InputError, match=f'--out: cannot make the folder {place} anew: '):
        check.check((check.Step('wrong', 'WRONG', 'faults.wrong', 60),), 'cpu', place.parents[1], 1)
    assert (place if kind == 'file' else place / 'log.txt').read_text() == 'mine'
    assert [path.name for path in mine.iterdir()] == ['log.txt']


def test_a_page_that_cannot_be_written_is_told_at_once(check, tmp_path):
    (tmp_path / 'gpu.md').mkdir()
    with pytest.raises(InputError, match=f'cannot write {tmp_path / "gpu.md"}: '):
        check.check((check.Step('wrong', 'WRONG', 'faults.wrong', 60),), 'cpu', tmp_path, 1)
    assert not (tmp_path / 'gpu_steps').exists()


def test_two_checks_do_not_share_a_folder(check, tmp_path):
    message = f'--out: another check writes to {tmp_path}: '
    with check.alone_in(tmp_path), pytest.raises(InputError, match=message):
        check.check((check.Step('wrong', 'WRONG', 'faults.wrong', 60),), 'cpu', tmp_path, 1)
    assert not list(tmp_path.glob('gpu*'))
    run(check, tmp_path, {'wrong': 60})


def test_relative_paths_of_the_user_reach_the_steps(check, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(['', '.', 'nowhere']))
    steps = run(check, tmp_path, {'wrong': 60})
    assert steps['wrong']['problems'] == ['2 + 2 is 5']


def test_the_line_that_tells_why(load, tmp_path):
    log = tmp_path / 'log.txt'
    for text, line in (
        ('a\ntorch._inductor.exc.InductorError: no compiler\n\nSet TORCH_LOGS\n',
         'torch._inductor.exc.InductorError: no compiler'),
        ('RuntimeError: first\nerror: the last\nbye\n', 'error: the last'),
        ('KeyboardInterrupt\n', 'KeyboardInterrupt'),
        ('an error: no\nthe end\n\n', 'the end'),
        ('', 'nothing'),
    ):  # fmt: skip
        log.write_text(text)
        assert load('processes').last_line(log) == line


# The tool -----------------------------------------------------------------------------------------


def test_every_step_has_its_function(check, load):
    for step in check.STEPS:
        module, _, function = step.function.partition('.')
        assert callable(getattr(load(module), function)), step.name


def test_without_a_gpu(fails):
    line = fails('gpu/check', '--steps', 'machine')
    assert '--device cpu works everywhere' in line


def test_unknown_step(fails):
    line = fails('gpu/check', '--device', 'cpu', '--steps', 'machine', 'speed')
    assert '--steps takes machine, parity, gradients' in line and "not 'speed'" in line


def test_some_steps_as_a_user_runs_them(process, tmp_path):
    arguments = ['--device', 'cpu', '--steps', 'kernels', 'machine', '--out', tmp_path]
    done = process('tools/gpu/check.py', *arguments)
    assert (done.returncode, done.stdout) == (0, f'no problem found: {tmp_path / "gpu.md"}\n'), (
        done.stderr
    )
    steps = json.loads((tmp_path / 'gpu.json').read_text())['steps']
    assert list(steps) == ['machine', 'kernels']
    rows, times = steps['kernels']['figures'].values()
    assert [row['attention'] for row in times] == ['MSSA', 'MSSA', 'GSDA', 'GSDA']
    assert len(rows) == 8
    assert rows[0]['layer'] == 'stages.0.blocks.*.mssa.attn'
    assert {row['inference, float32'] for row in rows} == {'flash (CPU)'}
    assert rows[1]['training, float32'] == 'products'
    assert '| torch ' in (tmp_path / 'gpu.md').read_text()


@pytest.mark.slow
def test_the_steps_that_measure(process, tmp_path):
    names = ['parity', 'gradients', 'shapes', 'steps', 'convolutions', 'table']
    done = process('tools/gpu/check.py', '--device', 'cpu', '--out', tmp_path, '--steps', *names)
    assert done.returncode == 0, done.stderr
    steps = json.loads((tmp_path / 'gpu.json').read_text())['steps']
    assert list(steps) == names
    (parity,) = steps['parity']['figures'].values()
    assert len(parity) == 4 and all(float(row['float64']) < 1e-6 for row in parity)
    (trained,) = steps['steps']['figures'].values()
    assert len(trained) == 4 and all(float(row['peak (GiB)']) > 0.05 for row in trained)
    (table,) = steps['table']['figures'].values()
    assert [row['name'] for row in table['rows']] == [
        'scopevit-xtiny_8xb128_in1k',
        'scopevit-tiny_8xb128_in1k',
    ]
