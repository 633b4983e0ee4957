"""What is told of a training that hangs."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from mmpretrain.models import ImageClassifier
from tasks import Task


@pytest.mark.parametrize('hangs', [True, False])
def test_where_it_hangs(
    hangs: bool,
    make_task: Callable[[str], Task],
    tool: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = make_task('classification')
    loss_of = ImageClassifier.loss

    def wait_for_nobody(*args: Any) -> Any:
        time.sleep(1.5 * hangs)
        return loss_of(*args)

    monkeypatch.setattr(ImageClassifier, 'loss', wait_for_nobody)
    seconds = 1 if hangs else 100
    code, err = tool('train', task.config, '--work-dir', task.work_dir, '--watchdog', seconds)
    assert code == 0, err
    found = list(task.work_dir.rglob('hang_of_process_0.txt'))
    assert len(found) == hangs
    for path in found:
        assert 'wait_for_nobody' in path.read_text()
