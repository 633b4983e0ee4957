"""Trainings that go wrong: a loss or weights that are no numbers any more."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from scopevit.engine.distributed import all_reduced
from scopevit.engine.failed import save_failed
from scopevit.engine.loops import StepLeftOut
from scopevit.engine.model import unwrap_model
from scopevit.engine.resume import State, float_buffers, random_state
from scopevit.engine.sharded import ShardedModel, all_finite
from scopevit.errors import InputError

SHOWN = 8  # files of a batch, in a message
OF_ANOTHER = 'the loss of another process is no number'


class FiniteLossHook(Hook):
    """Ends a training at the step whose loss is NaN or infinite, before the weights change.

    With the loss scaling of mixed precision, too: that skips steps whose gradients overflow, but a
    loss that has no value has no use for a smaller scale.

    Some steps may be left out instead, in all processes where one of them has such a loss. The
    buffers, as statistics of BN, are then those of before the step.

    Attributes:
        allowed: How many.
        left_out: How many were.
    """

    def __init__(self) -> None:
        self.allowed = self.left_out = 0
        self.batch: Any = None
        self.random: State = {}
        self.buffers: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        """Puts a check behind the model's `parse_losses`, which adds up what goes backward."""
        model: Any = unwrap_model(runner.model)
        parse: Callable[[Any], tuple[Tensor, dict[str, Tensor]]] | None
        parse = getattr(model, 'parse_losses', None)
        if parse is None:  # a model with a `train_step` of its own
            return

        def parse_and_check(losses: Any) -> tuple[Tensor, dict[str, Tensor]]:
            loss, terms = parse(losses)
            is_wrong = not math.isfinite(loss.item())
            is_sharded = isinstance(runner.model, ShardedModel)
            ends = is_wrong
            if self.allowed or is_sharded:  # in all processes, then
                ends = bool(all_reduced(torch.tensor(int(is_wrong)), 'max'))
            if not ends:
                return loss, terms
            lines = [self.describe(runner, terms) if is_wrong else OF_ANOTHER]
            if is_wrong or is_sharded:
                lines.append(save_failed(runner, self.random, terms if is_wrong else None))
            said = '; '.join(line for line in lines if line)
            if self.allowed:
                self.leave_out(runner, said)
            raise InputError(said)

        model.parse_losses = parse_and_check

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keeps what tells of a step that goes wrong, and the buffers, for one left out."""
        self.batch, self.random = data_batch, random_state()
        if self.allowed:
            self.buffers = [buffer.clone() for buffer in float_buffers(runner)]

    def leave_out(self, runner: Runner, said: str) -> None:
        """Counts a step that is left out, and restores the buffers.

        Raises:
            StepLeftOut: If it may be.
            InputError: If it is one too many.
        """
        if self.left_out == self.allowed:
            raise InputError(f'more steps without a loss than --skip-nan {self.allowed}: {said}')
        self.left_out += 1
        runner.logger.warning(f'left out step {self.left_out} of {self.allowed}: {said}')
        with torch.no_grad():
            for buffer, before in zip(float_buffers(runner), self.buffers, strict=True):
                buffer.copy_(before)
        raise StepLeftOut

    def after_train(self, runner: Runner) -> None:
        """Takes the check away."""
        self.batch = None
        vars(unwrap_model(runner.model)).pop('parse_losses', None)

    def describe(self, runner: Runner, terms: Mapping[str, Tensor]) -> str:
        """Returns a line about a loss that is no number."""
        values = {name: value.item() for name, value in terms.items()}
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        parts = [name for name in wrong if name != 'loss'] or wrong
        rates = sorted({rate for each in runner.optim_wrapper.get_lr().values() for rate in each})
        norms = runner.message_hub.log_scalars.get('train/grad_norm')
        said = [
            f'the loss is {values["loss"]} at iteration {runner.iter + 1}',
            ', '.join(f'{name} {values[name]}' for name in parts),
            f'learning rate {", ".join(f"{rate:.3g}" for rate in rates)}',
        ]
        if norms is not None:
            said.append(f'gradient norm before {norms.current():.3g}')
        files = list(files_of(self.batch))
        if files:
            more = f' and {len(files) - SHOWN} more' if len(files) > SHOWN else ''
            said.append(f'batch {", ".join(files[:SHOWN])}{more}')
        return '; '.join(said)


def files_of(batch: Any) -> Iterator[str]:
    """Yields the files of the images in a batch, as far as its data samples know them."""
    samples = batch.get('data_samples') if isinstance(batch, Mapping) else None
    for sample in samples or []:
        path = getattr(sample, 'img_path', None)
        if path:
            yield str(path)


def check_finite(model: nn.Module) -> None:
    """Raises an InputError where weights of a model are NaN or infinite."""
    weights = dict(model.named_parameters())
    for name, is_finite in zip(weights, all_finite(list(weights.values())), strict=True):
        if not is_finite:
            raise InputError(f'not saved: the model has weights that are no numbers, as {name}')
