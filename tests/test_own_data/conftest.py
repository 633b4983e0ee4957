"""What the tests of own data have in common."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from own_images import QUICK
from tasks import DEMO, read_idx

from scopevit.errors import InputError
from scopevit.own_data.new import new_config


@pytest.fixture
def write(tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., tuple[Path, str]]:
    """A function that writes a config for data: its path, and what was said."""

    def run(task: str, source: Path, **options: object) -> tuple[Path, str]:
        config = new_config(
            task, source, **{'size': 'xtiny', 'out': tmp_path / 'own.py', **options}
        )
        return config, capsys.readouterr().out

    return run


@pytest.fixture
def refuses(tmp_path: Path) -> Callable[..., str]:
    """A function that asserts that data are refused and nothing is written; returns the line."""

    def run(task: str, source: Path, **options: object) -> str:
        before = sorted(tmp_path.rglob('*'))
        with pytest.raises(InputError) as caught:
            new_config(task, source, **{'out': tmp_path / 'own.py', **options})
        assert sorted(tmp_path.rglob('*')) == before
        assert '\n' not in str(caught.value)
        return str(caught.value)

    return run


@pytest.fixture
def trains(tool: Callable[..., tuple[int, str]], tmp_path: Path) -> Callable[..., None]:
    """A function that trains an epoch by a config from another folder, and tests what it saved."""

    def run(config: Path, *options: str) -> None:
        work_dir = tmp_path / 'work_dir'
        arguments = ['--work-dir', work_dir, '--cfg-options', *QUICK, *options]
        for name, more in (('train', []), ('test', [work_dir / 'epoch_1.pth'])):
            code, err = tool(name, config, *more, *arguments)
            assert code == 0, err
        assert (work_dir / 'metrics.json').is_file()
        assert tool('analysis_tools/print_config', config) == (0, '')

    return run


@pytest.fixture
def clothes(tmp_path: Path) -> Path:
    """Folders of three classes with ten images each."""
    source = DEMO / 'fashion_mnist'
    images = read_idx(next(source.rglob('t10k-images*')), 16).reshape(-1, 28, 28)
    labels = read_idx(next(source.rglob('t10k-labels*')), 8)
    for label, name in enumerate(('t-shirt', 'trouser', 'pull over')):
        folder = tmp_path / 'clothes' / name
        folder.mkdir(parents=True)
        for i in np.flatnonzero(labels == label)[:10]:
            cv2.imwrite(str(folder / f'{i}.png'), images[i])
    return tmp_path / 'clothes'
