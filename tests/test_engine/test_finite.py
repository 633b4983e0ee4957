"""Losses and weights that are no numbers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from torch import nn

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
