"""tools/analysis_tools/dataset_browse.py and analyze_logs.py as a user runs them."""

import json

import matplotlib.pyplot as plt
import pytest

BROWSE = 'analysis_tools/dataset_browse'
LOGS = 'analysis_tools/analyze_logs'


@pytest.fixture
def log(tmp_path):
    """A work dir with the log of three iterations and a validation."""
    path = tmp_path / 'run' / '20260101_000000' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    lines = [{'loss': 3.0 - i, 'lr': 0.1, 'iter': i, 'step': i} for i in (1, 2, 3)]
    lines.append({'mIoU': 40.0, 'step': 3})
    path.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    return tmp_path / 'run'


def test_browse_of_a_demo_recipe_as_a_process(process, tmp_path):
    config = 'configs/demo/classification_scopevit-xtiny_fashion-mnist.py'
    arguments = ['--split', 'val', '--number', '2', '--stages', 'both', '--out-dir', tmp_path]
    result = process('tools/analysis_tools/dataset_browse.py', config, *arguments)
    assert result.returncode == 0, result.stderr
    pictures = sorted(path.name for path in tmp_path.iterdir())
    assert pictures[0] == 'contact_sheet.png'
    assert [name[:4] for name in pictures[1:]] == ['val_', 'val_']
    assert result.stdout.endswith(f'2 pictures and {tmp_path}/contact_sheet.png\n')


def test_browse_writes_to_the_work_dir(make_task, tool, tmp_path, monkeypatch):
    task = make_task('pose')
    monkeypatch.chdir(tmp_path)
    code, err = tool(BROWSE, task.config, '--number', 1, '--cfg-options', 'val_dataloader=None')
    assert code == 0, err
    assert len(list((tmp_path / 'work_dirs' / 'pose' / 'browse').iterdir())) == 2


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--number', 0], '--number must be at least 1, not 0'),
        (['--seed', -1], '--seed must be from 0'),
        (['--split', 'test', '--cfg-options', 'test_dataloader=None'], 'has no test_dataloader'),
        (['--cfg-options', 'visualizer.type=Crayon'], "visualizer.type 'Crayon' is none of mmpret"),
        (['--cfg-options', 'train_dataloader.dataset.ann_file=none.txt'], 'none.txt'),
        (['--cfg-options', 'train_dataloader.dataset.typo=1'], 'typo'),
    ],
)
def test_browse_refuses(arguments, message, make_task, fails, tmp_path):
    task = make_task('classification')
    assert message in fails(BROWSE, task.config, '--out-dir', tmp_path / 'out', *arguments)
    assert not (tmp_path / 'out').exists()


def test_browse_names_an_unreadable_image(make_task, fails):
    task = make_task('classification')
    path = next((task.data / 'images').iterdir())
    path.write_bytes(b'no image')
    assert str(path) in fails(BROWSE, task.config)


def test_browse_needs_a_screen_to_show(make_task, fails, monkeypatch):
    monkeypatch.setattr(plt, 'get_backend', lambda: 'agg')
    assert '--show needs a screen' in fails(BROWSE, make_task('classification').config, '--show')


def test_logs_as_a_process(log, process, tmp_path):
    out = tmp_path / 'new' / 'curves.svg'
    arguments = [log, '--keys', 'loss', 'mIoU', '--labels', 'mine', '--out', out, '--smooth', '2']
    result = process('tools/analysis_tools/analyze_logs.py', *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        'mine: 3 iterations, last loss 0',
        '  mIoU: highest 40 at iteration 3',
        f'curves: {out}',
    ]
    assert '<svg' in out.read_text()
    assert [path.name for path in out.parent.iterdir()] == ['curves.svg']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--keys', 'los'], "no 'los' in"),
        (['--keys', 'los'], ': loss, lr, mIoU'),
        (['--labels', 'a', 'b'], '--labels must name 1 runs'),
        (['--out', 'curves.jpg'], '--out must end in .png or .svg, not curves.jpg'),
        (['--smooth', 0], '--smooth must be at least 1, not 0'),
        (['/nowhere'], 'log or work dir not found: /nowhere'),
    ],
)
def test_logs_refuses(arguments, message, log, fails):
    assert message in fails(LOGS, log, *arguments)
    assert not (log / 'curves.png').exists()


def test_logs_needs_lines(fails, log, tmp_path):
    (tmp_path / 'empty').mkdir()
    assert f'no log in {tmp_path}/empty: ' in fails(LOGS, tmp_path / 'empty')
    next(log.rglob('scalars.json')).write_text('')
    assert f'nothing is logged yet: {log}' in fails(LOGS, log)
