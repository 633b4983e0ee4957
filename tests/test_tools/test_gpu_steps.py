"""The steps of tools/gpu/check.py on the CPU: they find what is wrong."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_cuda import needs_cuda_code

GPU = Path(__file__).parents[2] / 'tools' / 'gpu'
PREDICTED = 'peak memory predicted, AMP (GiB)'


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


@pytest.mark.parametrize('content', [b'', b'no such file', b'PK\x03\x04 cut off'])
def test_parity_names_a_damaged_golden_file(content, load, findings, monkeypatch, tmp_path):
    parity = load('parity')
    path = tmp_path / 'xtiny_1x3x224x224.npz'
    path.write_bytes(content)
    monkeypatch.setattr(parity, 'GOLDEN_DIR', tmp_path)
    monkeypatch.setattr(parity, 'CPU_CASES', (path.stem,))
    parity.check_parity('cpu', findings)
    (line,) = findings.problems
    assert line.startswith(f'{path} is damaged: ')


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
        for logits in ('', ', masked', ', below -88')
        for precision in ('float32', 'bfloat16')
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
    monkeypatch.setitem(runs.DEMOS, 'pose', runs.Demo('nowhere'))
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
    load('runs').keep_tests(report, 'exit code 1', 'cuda', findings)
    assert findings.problems == ['bad[cuda]: assert 1 == 2']
    assert findings.figures['Tests of the operators'] == [
        {'passed': '1', 'failed': '1', 'skipped': '1'}
    ]


def test_training_steps_go_on_after_one_that_fails(load, findings, monkeypatch):
    training = load('training')

    def measure(path, amp, device):
        if 'retinanet' in path.name:
            raise RuntimeError('no such operator\nmore')
        if 'fpn' in path.name:
            raise torch.cuda.OutOfMemoryError('of 80 GiB')
        loss = math.nan if 'td-hm' in path.name else 1.0
        return training.Measured(2, (64, 64), 0.5, 2**29, loss)

    monkeypatch.setattr(training, 'measure_step', measure)
    training.check_steps('cpu', findings)
    assert findings.problems == [
        'detection/retinanet_scopevit-xtiny_fpn_1x_coco: RuntimeError: no such operator',
        'pose/td-hm_scopevit-xtiny_8xb32-210e_coco-256x192: its loss is no number',
    ]
    assert [note.partition(': ')[2] for note in findings.notes] == ['not enough memory']
    (rows,) = findings.figures.values()
    assert (rows[0]['images/s'], rows[0]['peak (GiB)']) == ('4.00', '0.500')


@needs_cuda_code
def test_the_page_has_what_is_predicted_today(load):
    training = load('training')
    path = GPU.parents[1] / 'configs' / 'classification' / 'scopevit-xtiny_8xb128_in1k.py'
    page = (GPU.parents[1] / 'docs' / 'gpu.md').read_text()
    lines = [line.split('|')[1:-1] for line in page.splitlines() if line.startswith('| ')]
    cells = [[cell.strip() for cell in line] for line in lines]
    column = next(line.index(PREDICTED) for line in cells if PREDICTED in line)
    (row,) = [line for line in cells if line[0] == path.stem]
    assert training.predicted_peak(path, True) == row[column]
    assert 'nowhere.py' in training.predicted_peak(path.with_name('nowhere.py'), True)


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


@pytest.mark.slow
@pytest.mark.parametrize('task, amp', [('segmentation', True), ('detection', False)])
def test_a_chain_through_the_launchers(task, amp, load, tmp_path):
    runs = load('runs')
    chain = runs.run_chain(runs.Chain(task, amp, launched=True), tmp_path / 'run', 1, 'cpu')
    assert (chain.failed, list(chain.seconds)) == ('', ['train', 'resume', 'test'])
