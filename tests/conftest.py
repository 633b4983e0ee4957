"""The miniature tasks, and the tools as functions."""

import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Before mmengine finds GPUs: a test compares what processes on the CPU and this one compute.
if not os.environ.get('SCOPEVIT_TEST_CUDA'):
    os.environ['CUDA_VISIBLE_DEVICES'] = ''

import pytest
import torch
from mmengine.config import config
from mmengine.registry import MODELS
from mmengine.utils import ManagerMixin
from tasks import Task, write_task
from trained import trained

from scopevit.cli import run_tool
from scopevit.engine.config import load_config
from scopevit.engine.libraries import find_library

__all__ = ['trained']  # a fixture, for pytest to find here

ROOT = Path(__file__).parents[1]


def pytest_collection_finish() -> None:
    """Leaves the libraries out of all full garbage collections: mmengine makes one a data set."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def format_configs_once() -> Iterator[None]:
    """Keeps configs as formatted: mmengine does so five times a run, longer than the training."""
    format_code, known = config.FormatCode, {}

    def format_once(text: str, **style: object) -> tuple[str, bool]:
        if text not in known:
            known[text] = format_code(text, **style)
        return known[text]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, 'FormatCode', format_once)
        yield


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[[str], Task]:
    """A function that writes one of the four tasks, for this test to spoil."""
    return lambda name: write_task(name, tmp_path)


def load_tool(name: str) -> Callable[[list[str]], None]:
    spec = importlib.util.spec_from_file_location(f'tools_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def load_main() -> Callable[[str], Callable[[list[str]], None]]:
    """A function that returns the `main` of a tool."""
    return load_tool


@pytest.fixture
def tool(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str]]:
    """A function that runs a tool in this process: exit code and what it printed to stderr."""

    def run(name: str, *arguments: object) -> tuple[int, str]:
        # mmengine keeps loggers and visualizers by the second in which their run began.
        for manager in all_subclasses(ManagerMixin):
            manager._instance_dict.clear()
        capsys.readouterr()
        code = run_tool(load_tool(name), [str(argument) for argument in arguments])
        return code, capsys.readouterr().err

    return run


def all_subclasses(cls: type) -> list[type]:
    return [cls, *(d for child in cls.__subclasses__() for d in all_subclasses(child))]


@pytest.fixture
def fails(tool: Callable[..., tuple[int, str]]) -> Callable[..., str]:
    """A function that runs a tool, asserts that it refuses its input, and returns the line."""

    def run(name: str, *arguments: object) -> str:
        code, err = tool(name, *arguments)
        lines = [line for line in err.splitlines() if line.startswith('error: ')]
        assert code == 1
        assert len(lines) == 1, err
        assert 'Traceback' not in err
        return lines[0]

    return run


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess]:
    """A function that runs a command in the repository as a process of its own."""

    def run(*command: object, **variables: str) -> subprocess.CompletedProcess:
        paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(paths)}
        return subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env={**env, **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[bytes, int]]]:
    """A function that returns content and time of every file right in a folder."""

    def take(folder: Path) -> dict[str, tuple[bytes, int]]:
        files = [path for path in folder.iterdir() if path.is_file()]
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    return take


@pytest.fixture
def save_weights() -> Callable[..., Path]:
    """A function that writes the weights of a task's new model, after a change, as a checkpoint."""

    def save(task: Task, change: Callable[[dict], None] | None = None) -> Path:
        cfg = load_config(task.config)
        find_library(cfg.default_scope)
        torch.manual_seed(0)
        with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
            state_dict = registry.build(cfg.model).state_dict()
        if change:
            change(state_dict)
        path = task.config.with_name(f'{task.config.stem}.pth')
        torch.save({'meta': {}, 'state_dict': dict(state_dict)}, path)
        return path

    return save
