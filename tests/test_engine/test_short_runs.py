"""How often a run logs, and where to."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.config import Config

from scopevit.engine.libraries import LIBRARIES
from scopevit.engine.logs import announce, effective_interval, enable_log
from scopevit.errors import InputError


@pytest.mark.parametrize(
    ('interval', 'iterations', 'expected'),
    [
        (10, 1000, 10),  # comes round within the epoch
        (10, 10, 10),  # one line an epoch, by choice
        (50, 49, 4),
        (100, 12, 1),
        (10, 3, 1),
        (10, 1, 1),
    ],
)
def test_interval_within_a_pass(interval, iterations, expected):
    assert effective_interval(interval, iterations) == expected


def logged(work_dir: Path) -> list[int]:
    """The iterations at which training was logged."""
    [log] = work_dir.glob('*/vis_data/scalars.json')
    lines = map(json.loads, log.read_text().splitlines())
    return [line['iter'] for line in lines if 'loss' in line]


def validations(work_dir: Path) -> int:
    """How often batches of validation were logged."""
    [log] = work_dir.glob('*/*.log')
    return log.read_text().count('eta: ') - len(logged(work_dir))


@pytest.mark.parametrize(
    ('hook', 'expected'),
    [
        ('', list(range(1, 9))),  # mmengine's default of 10, and 8 batches
        (", logger=dict(type='LoggerHook', interval=8)", [8]),
    ],
)
def test_epoch_shorter_than_the_interval_is_logged(hook, expected, make_task, tool):
    task = make_task('classification')
    task.edit("type='CheckpointHook', interval=1)", f"type='CheckpointHook', interval=1){hook}")
    task.edit('train_dataloader = dict(batch_size=4', 'train_dataloader = dict(batch_size=1')
    code, err = tool('train', task.config, '--work-dir', task.work_dir)
    assert code == 0, err
    assert logged(task.work_dir) == expected
    assert validations(task.work_dir) == 2  # of its 2 batches
    [log] = task.work_dir.glob('*/*.log')
    interval = expected[0]
    assert f'8 iterations an epoch, a line every {interval}; loading' in log.read_text()


def test_run_shorter_than_the_interval_is_logged(make_task, tool):
    task = make_task('classification')
    task.edit('by_epoch=True, max_epochs=1', 'by_epoch=False, max_iters=5, val_interval=5')
    code, err = tool('train', task.config, '--work-dir', task.work_dir)
    assert code == 0, err
    assert logged(task.work_dir) == [1, 2, 3, 4, 5]
    [log] = task.work_dir.glob('*/*.log')
    assert '5 iterations in all, a line every 1; loading' in log.read_text()


def test_short_test_is_logged(make_task, tool, save_weights):
    task = make_task('classification')
    code, err = tool('test', task.config, save_weights(task), '--work-dir', task.work_dir)
    assert code == 0, err
    [log] = task.work_dir.glob('*/*.log')
    assert 'Epoch(test) [1/2]' in log.read_text()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that lets a package of some name be found."""

    def install(name: str) -> None:
        (tmp_path / 'packages' / name).mkdir(parents=True)
        (tmp_path / 'packages' / name / '__init__.py').touch()
        monkeypatch.syspath_prepend(tmp_path / 'packages')

    return install


@pytest.mark.parametrize(
    ('name', 'backend'),
    [
        ('tensorboard', 'TensorboardVisBackend'),
        ('wandb', 'WandbVisBackend'),
    ],
)
def test_backend_joins_those_of_the_config(name, backend, installed):
    installed(name)
    cfg = Config(dict(visualizer=dict(type='Mine', vis_backends=[dict(type='A', b=1)])))
    enable_log(cfg, LIBRARIES['mmdet'], name)
    expected = dict(type='Mine', vis_backends=[dict(type='A', b=1), dict(type=backend)])
    assert cfg.visualizer == expected
    enable_log(cfg, LIBRARIES['mmdet'], name)  # it is there, perhaps with settings
    assert cfg.visualizer == expected
    cfg = Config(dict(visualizer=None))
    enable_log(cfg, LIBRARIES['mmdet'], name)
    local = dict(type='LocalVisBackend')
    assert cfg.visualizer == dict(
        type='DetLocalVisualizer', vis_backends=[local, dict(type=backend)]
    )


def test_mlflow_has_a_database_or_a_server(installed, monkeypatch, tmp_path):
    installed('mlflow')
    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    monkeypatch.chdir(tmp_path)
    Path('mine.py').touch()

    def backend() -> dict:
        cfg = Config(dict(work_dir='out'), filename='mine.py')
        enable_log(cfg, LIBRARIES['mmpose'], 'mlflow')
        return cfg.visualizer.vis_backends[-1]

    assert backend() == dict(
        type='MLflowVisBackend',
        tracking_uri=f'sqlite:///{tmp_path}/out/mlflow.db',
        exp_name='mine',
        artifact_location=f'{tmp_path}/out/mlflow',
    )
    monkeypatch.setenv('MLFLOW_TRACKING_URI', 'http://server:5000')
    assert backend() == dict(
        type='MLflowVisBackend', tracking_uri='http://server:5000', exp_name='mine'
    )


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    said = '^--log wandb needs the package wandb: pip install wandb$'
    with pytest.raises(InputError, match=said):
        enable_log(Config(), LIBRARIES['mmdet'], 'wandb')


def test_scalars_reach_tensorboard(make_task, tool, installed, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            self.folder = folder

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, step))

        def add_text(self, *args: object) -> None: ...

        def close(self) -> None: ...

    module = ModuleType('torch.utils.tensorboard')
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, module.__name__, module)
    installed('tensorboard')
    task = make_task('classification')
    code, err = tool('train', task.config, '--work-dir', task.work_dir, '--log', 'tensorboard')
    assert code == 0, err
    assert {('loss', 1), ('loss', 2), ('accuracy/top1', 1)} <= set(written)
    assert logged(task.work_dir) == [1, 2]  # the work dir has its own log still


def test_first_process_alone_announces(monkeypatch, capsys):
    monkeypatch.setenv('RANK', '1')
    announce('a line', 'pytorch')
    assert capsys.readouterr().out == ''
    announce('a line', 'none')  # whatever else set the variable
    monkeypatch.setenv('RANK', '0')
    announce('another', 'pytorch')
    assert capsys.readouterr().out == 'a line\nanother\n'
