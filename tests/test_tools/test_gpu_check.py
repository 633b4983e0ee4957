"""tools/gpu/check.py on the CPU: its steps find what is wrong, and none hides what others find."""

import copy
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from fake_cuda import needs_cuda_code

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

def never(device, findings):
    findings.problem('it ran')
'''


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """A function that imports a file of tools/gpu."""
    monkeypatch.syspath_prepend(str(GPU))
    return importlib.import_module


@pytest.fixture
def findings(load, tmp_path):
    return load('findings').Findings(tmp_path / 'step' / 'findings.json')


@pytest.fixture
def check(load, monkeypatch, tmp_path) -> ModuleType:
    """The check, in whose processes there is a module `faults`."""
    (tmp_path / 'faults.py').write_text(FAULTS)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv('PID_FILE', str(tmp_path / 'pid'))
    return load('check')


def run(check: ModuleType, out: Path, limits: dict[str, float], minutes: float = 1) -> dict:
    """Runs functions of `faults` as steps; returns what the JSON file has, by step."""
    steps = tuple(check.Step(n, n.upper(), f'faults.{n}', limit) for n, limit in limits.items())
    with pytest.raises(InputError) as error:
        check.check(steps, 'cpu', str(out), minutes)
    content = json.loads((out / 'gpu.json').read_text())['steps']
    bad = [name for name in limits if content[name]['problems']]
    assert f'problems in {len(bad)} of {len(limits)} steps: {", ".join(bad)}; ' in str(error.value)
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
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_step_and_all_that_it_started(check, tmp_path, number):
    program = """if True:
        import sys
        sys.path.insert(0, sys.argv[1])
        import check
        check.STEPS = (check.Step('hangs', 'HANGS', 'faults.hangs', 300),)
        check.main(['--device', 'cpu', '--out', sys.argv[2]])
    """
    process = subprocess.Popen(
        [sys.executable, '-c', program, GPU, tmp_path / 'out'], stderr=subprocess.DEVNULL
    )
    pid_file = tmp_path / 'pid'
    deadline = time.monotonic() + 60
    while not (pid_file.is_file() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), signal.SIGCONT)


def test_steps_for_which_no_time_is_left_are_named(check, tmp_path):
    steps = run(check, tmp_path, {'never': 60, 'sound': 60}, minutes=0.01)
    for step in steps.values():
        assert (step['seconds'], step['problems']) == (None, ['the time was up before it'])
    assert 'not run' in (tmp_path / 'gpu.md').read_text()


def test_findings_of_an_earlier_run_do_not_count(check, tmp_path):
    steps = run(check, tmp_path, {'wrong': 60})
    assert steps['wrong']['problems'] == ['2 + 2 is 5']
    steps = run(check, tmp_path, {'wrong': 60}, minutes=0.01)
    assert steps['wrong']['problems'] == ['the time was up before it']


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


# The steps ----------------------------------------------------------------------------------------


def test_parity_finds_a_wrong_weight(load, findings, monkeypatch):
    parity = load('parity')
    right = parity.golden_classifier

    def spoiled(arch):
        model = copy.deepcopy(right(arch))
        with torch.no_grad():
            model.backbone.stages[3].blocks[0].gsda.attn.qkv.weight[0, 0] += 1e-2
        return model

    monkeypatch.setattr(parity, 'golden_classifier', spoiled)
    monkeypatch.setattr(parity, 'CPU_CASES', ('xtiny_1x3x224x224',))
    monkeypatch.setattr(parity, 'PRECISIONS', {'float64': 1e-6, 'float32': 1.0})
    parity.check_parity('cpu', findings)
    assert [line.partition(': ')[0] for line in findings.problems] == [
        'xtiny_1x3x224x224, trained, float64',
        'xtiny_1x3x224x224, gradient, float64',
        'xtiny_1x3x224x224, deployed, float64',
    ]


def test_parity_takes_no_nan_for_a_number(load, findings):
    parity = load('parity')
    golden = {'stage0_sample': np.ones(512), 'logits': np.ones((1, 2))}
    found = {'stage0_sample': torch.full((512,), float('nan')), 'logits': torch.ones(1, 2)}
    error = parity.errors(found, golden)['outputs']
    parity.judge(findings, 'it', error, 0.1)
    assert findings.problems == ['it: off by nan, where 0.1 is allowed']


@pytest.mark.parametrize('device, tf32', [('cpu', False), ('cpu', True)])
def test_tf32_is_as_asked_for_and_then_as_before(load, device, tf32):
    parity = load('parity')
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    with parity.computing_in('TF32' if tf32 else 'float32', device):
        assert [backend.allow_tf32 for backend in backends] == [tf32] * 2
    assert [backend.allow_tf32 for backend in backends] == before


def test_gradients_that_are_none(load, findings, monkeypatch):
    attention = load('attention')
    right = attention.biased_attention

    def with_nan(q, k, v, bias):
        out = right(q, k, v, bias)
        return out * out.new_tensor(float('nan')) if q.shape[2] == 64 else out

    monkeypatch.setattr(attention, 'biased_attention', with_nan)
    attention.check_gradients('cpu', findings)
    assert [line.partition(': off')[0] for line in findings.problems] == [
        f"{precision}, 64 slots{logits}, the backbone's"
        for precision in ('float32', 'bfloat16')
        for logits in ('', ', masked', ', below -88')
    ]
    rows, _ = findings.figures.values()
    assert rows[-1]["the backbone's"] == 'nan' and rows[-1]['cuDNN'] == 'none'
    assert all(float(row['math']) < 0.05 for row in rows)


@pytest.fixture
def written(tmp_path) -> Path:
    """The folder of a training of two epochs and its test, as the tools leave them."""
    folder = tmp_path / 'run'
    for epoch in (1, 2):
        log = folder / f'2026110{epoch}' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        lines = [
            {'loss': 2.5, 'step': 2 * epoch - 1},
            {'loss': 2.0, 'step': 2 * epoch},
            {'accuracy/top1': 50.0, 'step': epoch},
        ]
        log.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    metrics = {'metrics': {'accuracy/top1': 50.0}, 'device': 'cpu'}
    (folder / 'test').mkdir()
    (folder / 'test' / 'metrics.json').write_text(json.dumps(metrics))
    return folder


def test_what_a_training_left(load, written):
    runs = load('runs')
    assert runs.faults(written, 'cpu') == []
    (written / 'test' / 'metrics.json').write_text('{"metrics": {}, "device": "NVIDIA"}')
    log = written / '20261102' / 'vis_data' / 'scalars.json'
    log.write_text('{"loss": NaN, "step": 4}\n')
    assert runs.faults(written, 'cpu') == [
        'it logged the steps [[1, 2], [4]], not some and those after them',
        'the loss of step 4 is no number',
        'the test has no metrics',
        'the test ran on NVIDIA, not on cpu',
    ]


def test_the_commands_of_a_chain(load, tmp_path):
    runs = load('runs')
    commands = dict(runs.Chain('pose', amp=True, launched=True).commands(tmp_path, 2))
    config = 'configs/demo/td-hm_scopevit-xtiny_people-256x192.py'
    assert commands['train'][:4] == ['bash', 'tools/dist_train.sh', config, '2']
    assert '--amp' in commands['resume'] and '--resume' in commands['resume']
    assert commands['test'][:5] == [
        'bash', 'tools/dist_test.sh', config, str(tmp_path / 'epoch_2.pth'), '2',
    ]  # fmt: skip
    alone = dict(runs.Chain('pose', amp=False, launched=False).commands(tmp_path, 2))
    assert alone['train'][1:4] == ['tools/train.py', config, '--work-dir']


def test_a_chain_ends_with_what_fails(load, tmp_path, monkeypatch):
    runs = load('runs')
    monkeypatch.setitem(runs.RECIPES, 'pose', runs.Recipe('nowhere'))
    chain = runs.run_chain(runs.Chain('pose', False, False), tmp_path / 'run', 1, 'cpu')
    assert chain.failed.startswith('train: exit code 1; it said last: error: ')
    assert 'nowhere' in chain.failed and list(chain.seconds) == ['train']


def test_tests_of_the_operators_that_fail(load, findings, tmp_path):
    report = tmp_path / 'operators.xml'
    report.write_text(
        '<testsuites><testsuite><testcase name="good"/>'
        '<testcase name="bad[cuda]"><failure message="assert 1 == 2&#10;more"/></testcase>'
        '<testcase name="left_out"><skipped message="no"/></testcase></testsuite></testsuites>'
    )
    load('runs').keep_tests(report, 'exit code 1', findings)
    assert findings.problems == ['bad[cuda]: assert 1 == 2']
    assert findings.figures['Tests of the operators'] == [
        {'passed': '1', 'failed': '1', 'skipped': '1'}
    ]


def test_training_steps_go_on_after_one_that_fails(load, findings, monkeypatch):
    training = load('training')

    def measure(path, amp, device):
        if 'retinanet' in path.name:
            raise RuntimeError('CUDA error: an illegal memory access\nmore')
        if 'fpn' in path.name:
            raise torch.cuda.OutOfMemoryError('of 80 GiB')
        loss = math.nan if 'td-hm' in path.name else 1.0
        return training.Measured(2, (64, 64), 0.5, 2**29, loss)

    monkeypatch.setattr(training, 'measure_step', measure)
    training.check_steps('cpu', findings)
    assert findings.problems == [
        'detection/retinanet_scopevit-xtiny_fpn_1x_coco: '
        'RuntimeError: CUDA error: an illegal memory access',
        'pose/td-hm_scopevit-xtiny_8xb32-210e_coco-256x192: its loss is no number',
    ]
    assert [note.partition(': ')[2] for note in findings.notes] == ['not enough memory']
    (rows,) = findings.figures.values()
    assert (rows[0]['images/s'], rows[0]['peak (GiB)']) == ('4.00', '0.500')


@needs_cuda_code
def test_what_is_predicted_stands_beside_what_is_measured(load, findings):
    training = load('training')
    path = GPU.parents[1] / 'configs' / 'classification' / 'scopevit-xtiny_8xb128_in1k.py'
    page = (GPU.parents[1] / 'docs' / 'gpu.md').read_text()
    lines = [line.split('|')[1:-1] for line in page.splitlines() if line.startswith('| ')]
    cells = [[cell.strip() for cell in line] for line in lines]
    column = next(line.index(PREDICTED) for line in cells if PREDICTED in line)
    (row,) = [line for line in cells if line[0] == path.stem]
    assert training.predicted_peak(path, True, findings) == row[column]
    assert training.predicted_peak(path.with_name('nowhere.py'), True, findings) == ''
    assert 'nowhere: not predicted: ' in findings.notes[0]


@pytest.mark.parametrize(
    'recipe', ['retinanet', 'mask-rcnn', 'fpn', 'upernet', 'td-hm', 'scopevit']
)
def test_a_training_step_of_each_method(load, recipe):
    training = load('training')
    names = [name for name, _ in (*training.SHORT, *training.RECIPES)]
    name = next(name for name in names if name.partition('/')[2].startswith(recipe))
    torch.manual_seed(0)
    step = training.TrainingStep(GPU.parents[1] / 'configs' / f'{name}.py', False, 'cpu')
    before = [p.detach().clone() for p in step.model.parameters()]
    step()
    assert 0 < step.loss < 100
    after = step.model.parameters()
    assert sum(not torch.equal(a, b) for a, b in zip(after, before)) > len(before) / 2


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
    assert (done.returncode, done.stdout) == (0, f'all is well: {tmp_path / "gpu.md"}\n'), (
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
    names = ['parity', 'gradients', 'shapes', 'convolutions', 'steps', 'table']
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


@pytest.mark.slow
@pytest.mark.parametrize('task, amp', [('segmentation', True), ('detection', False)])
def test_a_chain_through_the_launchers(task, amp, load, tmp_path):
    runs = load('runs')
    chain = runs.run_chain(runs.Chain(task, amp, launched=True), tmp_path / 'run', 1, 'cpu')
    assert (chain.failed, list(chain.seconds)) == ('', ['train', 'resume', 'test'])
