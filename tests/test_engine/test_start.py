"""What the processes of a training start from."""

import pytest

from scopevit.engine import start
from scopevit.errors import InputError


def test_processes_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    other = 'epoch_1.pth (epoch 1, iteration 2)'
    monkeypatch.setattr(start, 'all_gather_object', lambda own: [own, other])
    start.check_same_start('a/epoch_1.pth', {'meta': {'epoch': 1, 'iter': 2}})
    with pytest.raises(InputError, match=r'different checkpoints: epoch_2\.pth .*, epoch_1\.pth '):
        start.check_same_start('a/epoch_2.pth', {'meta': {'epoch': 2, 'iter': 4}})
    with pytest.raises(InputError, match=r'different checkpoints: none .*, epoch_1\.pth '):
        start.check_same_start(None, None)
