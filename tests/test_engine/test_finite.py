"""Losses and weights that are no numbers."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from killed import different
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmpretrain.models import ImageClassifier
from tasks import Task
from torch import nn

from scopevit.checkpoint import read_checkpoint
from scopevit.engine.finite import FiniteLossHook, check_finite, files_of
from scopevit.errors import InputError


class Model(BaseModel):
    def forward(self, *args: Any, **kwargs: Any) -> None: ...


@pytest.fixture
def runner() -> Any:
    norms = HistoryBuffer([3.0, 12.5], [1, 1])
    return SimpleNamespace(
        model=Model(),
        iter=16,
        train_dataloader=SimpleNamespace(batch_sampler=None),
        optim_wrapper=SimpleNamespace(get_lr=lambda: {'lr': [0.1, 0.01, 0.1]}),
        message_hub=SimpleNamespace(log_scalars={'train/grad_norm': norms}),
    )


def test_a_loss_that_is_no_number(runner: Any) -> None:
    hook = FiniteLossHook()
    hook.before_train(runner)
    samples = [SimpleNamespace(img_path='a.jpg'), SimpleNamespace(), SimpleNamespace(img_path='b')]
    hook.before_train_iter(runner, 0, {'inputs': [], 'data_samples': samples})
    losses = {'loss_cls': torch.tensor([1.0, torch.nan]), 'loss_bbox': torch.tensor(2.0)}
    with pytest.raises(InputError) as raised:
        runner.model.parse_losses(losses)
    assert str(raised.value) == (
        'the loss is nan at iteration 17; loss_cls nan; learning rate 0.01, 0.1; gradient norm '
        'before 12.5; batch a.jpg, b'
    )


def test_a_sum_that_overflows(runner: Any) -> None:
    hook = FiniteLossHook()
    hook.before_train(runner)
    runner.message_hub.log_scalars.clear()
    large = torch.tensor(3e38)
    with pytest.raises(InputError) as raised:
        runner.model.parse_losses({'loss_a': large, 'loss_b': large})
    assert str(raised.value) == (
        'the loss is inf at iteration 17; loss inf; learning rate 0.01, 0.1'
    )


def test_other_losses_pass(runner: Any) -> None:
    hook = FiniteLossHook()
    hook.before_train(runner)
    # What is no loss may have no value, as the accuracy of no boxes.
    given = {'loss_a': torch.tensor(1.0), 'acc': torch.tensor(torch.nan)}
    loss, terms = runner.model.parse_losses(given)
    assert (loss.item(), terms['loss'].item()) == (1, 1)
    hook.after_train(runner)
    assert 'parse_losses' not in vars(runner.model)


def test_many_files_are_counted(runner: Any) -> None:
    hook = FiniteLossHook()
    samples = [SimpleNamespace(img_path=f'{i}.jpg') for i in range(10)]
    hook.before_train_iter(runner, 0, {'data_samples': samples})
    line = hook.describe(runner, {'loss': torch.tensor(torch.inf)})
    assert line.endswith('6.jpg, 7.jpg and 2 more')
    assert list(files_of(None)) == list(files_of({'data_samples': None})) == []


def test_weights_that_are_no_numbers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    check_finite(model)
    nn.init.constant_(model[1].weight, torch.inf)
    with pytest.raises(InputError, match=r'^not saved: .* no numbers, as 1\.weight$'):
        check_finite(model)


def weights_of(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Weights and statistics, but for how many batches these are of."""
    weights = checkpoint['state_dict']
    return {name: weights[name] for name in weights if not name.endswith('num_batches_tracked')}


@pytest.mark.parametrize('by_epoch', [True, False])
def test_steps_that_are_left_out(
    by_epoch: bool,
    make_task: Callable[[str], Task],
    tool: Callable[..., tuple[int, str]],
    fails: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = make_task('classification')
    length = 'max_epochs=2' if by_epoch else 'max_iters=4, val_interval=4'
    task.edit('by_epoch=True, max_epochs=1', f'by_epoch={by_epoch}, {length}')
    task.edit("CheckpointHook', interval=1", "CheckpointHook', interval=1, by_epoch=False")
    calls = [0]
    loss_of = ImageClassifier.loss

    def loss(self: Any, inputs: torch.Tensor, samples: Any) -> Any:
        calls[0] += 1
        return loss_of(self, inputs * (torch.nan if calls[0] in (2, 3) else 1), samples)

    monkeypatch.setattr(ImageClassifier, 'loss', loss)
    arguments = ['train', task.config, '--work-dir', task.work_dir]
    code, err = tool(*arguments, '--skip-nan', 2)
    assert code == 0, err
    saved = [read_checkpoint(task.work_dir / f'iter_{i}.pth') for i in (1, 2, 3, 4)]
    # Weights and statistics of BN stay where they were, and then change.
    first, second, third, last = (weights_of(content) for content in saved)
    assert different(first, second) == different(first, third) == []
    assert different(third, last)
    assert all(value.isfinite().all() for value in last.values())
    [log] = task.work_dir.glob('*/*.log')
    assert 'left out step 2 of 2: the loss is nan at iteration 3; ' in log.read_text()

    calls[0] = 0
    line = fails(*arguments, '--skip-nan', 1)
    assert 'more steps without a loss than --skip-nan 1: the loss is nan at iteration 3' in line
