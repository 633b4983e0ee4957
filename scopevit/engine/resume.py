"""What a training needs, besides what mmengine keeps, to go on as if it had not stopped."""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as torch_dist
from mmengine.dist import (
    gather_object,
    get_comm_device,
    get_rank,
    get_world_size,
    is_distributed,
)
from mmengine.hooks import EarlyStoppingHook, EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from scopevit.engine.batches import Start
from scopevit.engine.loops import ResumableEpochLoop, ResumableIterLoop
from scopevit.engine.model import unwrap_model
from scopevit.engine.samples import LEFT_OUT, describe_samples, items_of, left_out_of
from scopevit.engine.sharded import like, local

State = dict[str, Any]  # of values that a checkpoint may hold: tensors, numbers, text
KEY = 'processes'  # of a checkpoint, for a state of each process
PLACE = 'place'  # of its meta, for a batch of an epoch, and of how many


class ResumeHook(Hook):
    """Puts the state of every process into checkpoints, and lets a training go on with it.

    That is: the random state, gradients of a step that is not complete with gradient accumulation,
    and buffers where they differ between processes. And the validation that a checkpoint was
    written before takes place.
    """

    priority = 'LOWEST'  # after all others have got ready

    def __init__(self) -> None:
        # Of all processes, for the next checkpoint; in the first one alone, which writes it.
        self.states: list[State] | None = None
        self.resumed: State | None = None

    def gather(self, runner: Runner, buffers: bool = False) -> None:
        """Gets the states of all processes, in the first one, for the next checkpoint.

        `buffers`: also those of the model, for a checkpoint that has their mean.
        """
        if self.states is None:
            gradients = pending_gradients(runner)
            self.states = gather_object(process_state(runner, buffers, gradients)) or []
            gather_gradients(gradients, self.states)

    def before_save_checkpoint(self, runner: Runner, checkpoint: State) -> None:
        """Adds the states, the place in the epoch, and which samples were left out so far."""
        left_out = describe_samples(runner.train_dataloader, all_left_out(self.states or []))
        if left_out:
            checkpoint['meta'][LEFT_OUT] = left_out
        if 'optimizer' not in checkpoint:  # nothing goes on from it
            return
        checkpoint[KEY] = self.states
        if isinstance(runner.train_loop, ResumableEpochLoop):
            checkpoint['meta'][PLACE] = [runner.train_loop.batch, len(runner.train_dataloader)]

    def after_load_checkpoint(self, runner: Runner, checkpoint: State) -> None:
        """Takes the state of this process out of a checkpoint that a training goes on from."""
        states = checkpoint.get(KEY)
        if not runner.cfg.get('resume'):
            return
        self.resumed = {'validated': bool(checkpoint['meta'].get('validated'))}
        if not isinstance(states, list):
            runner.logger.warning('the checkpoint has no random state: goes on with another')
        elif len(states) != get_world_size():
            runner.logger.warning(
                f'the checkpoint is of {len(states)} processes, these are {get_world_size()}: '
                'goes on with other batches and another random state'
            )
            self.resumed['left_out'] = all_left_out(states)
        else:
            self.resumed |= states[get_rank()]

    def before_train(self, runner: Runner) -> None:
        """Takes up the state, and validates if that is what comes next."""
        resumed, self.resumed = self.resumed, None
        if resumed is None:
            return
        items = items_of(runner.train_dataloader)
        if items is not None:
            items.remember(resumed.get('left_out', []))
        if 'random' in resumed:
            restore(runner, resumed)
        loop = runner.train_loop
        is_ours = isinstance(loop, (ResumableEpochLoop, ResumableIterLoop))
        if is_ours and not resumed['validated']:
            loop.validate_if_due()


class StoredEarlyStoppingHook(EarlyStoppingHook):
    """EarlyStoppingHook that goes on counting when a training goes on."""

    KEY = 'early_stopping'  # of the message hub, which checkpoints have
    KEPT = ('best_score', 'wait_count', 'stopped')
    priority = 'LOW'  # before a checkpoint is written; mmengine's comes after

    def before_train(self, runner: Runner) -> None:
        """Takes up the count."""
        kept = runner.message_hub.runtime_info.get(self.KEY)
        if kept:
            self.best_score, self.wait_count, stopped = (kept[key] for key in self.KEPT)
            runner.train_loop.stop_training = stopped

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Counts, and keeps the count."""
        super().after_val_epoch(runner, metrics)
        values = self.best_score, self.wait_count, runner.train_loop.stop_training
        runner.message_hub.update_info(self.KEY, dict(zip(self.KEPT, values, strict=True)))


def start_of(checkpoint: State | None, by_epoch: bool) -> Start:
    """Returns where a training goes on from a checkpoint, its beginning where there is none.

    `by_epoch`: whether it counts epochs.
    """
    meta: State = checkpoint['meta'] if checkpoint else dict(epoch=0, iter=0)
    if not by_epoch:
        return Start(meta['iter'])
    batch, length = meta.get(PLACE) or (0, 0)  # mmengine begins an epoch anew
    return Start(meta['iter'], meta['epoch'], batch, length)


def all_left_out(states: list[State]) -> list[int]:
    """Returns the samples that any process has left out."""
    return sorted({index for state in states for index in state.get('left_out', [])})


def process_state(runner: Runner, buffers: bool, gradients: dict[str, Tensor]) -> State:
    """Returns the state of this process, see `ResumeHook.gather`; of gradients their shapes."""
    state: State = {'random': random_state()}
    left_out = left_out_of(runner.train_dataloader)
    if left_out:
        state['left_out'] = left_out
    if gradients:
        state['gradients'] = {name: value.to('meta') for name, value in gradients.items()}
    if buffers and is_distributed():
        state['buffers'] = [buffer.cpu() for buffer in float_buffers(runner)]
    return state


def pending_gradients(runner: Runner) -> dict[str, Tensor]:
    """Returns what this process has added up for a step that is not complete, by parameter."""
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return {}
    weights = unwrap_model(runner.model).named_parameters()
    return {name: local(weight.grad) for name, weight in weights if weight.grad is not None}


def gather_gradients(gradients: dict[str, Tensor], states: list[State]) -> None:
    """Puts the gradients of all processes into their states, in the first process.

    Each is as large as the model: they come a tensor at a time, and no other process has any but
    its own.

    Args:
        gradients: Of this process, by parameter.
        states: Of all processes, with the shapes of their gradients; empty in the others.
    """
    device = get_comm_device()
    if get_rank():
        for value in gradients.values():
            torch_dist.send(value.contiguous().to(device), 0)
    for rank, state in enumerate(states):
        for name, shape in state.get('gradients', {}).items():
            if rank:
                value = torch.empty(shape.shape, dtype=shape.dtype, device=device)
                torch_dist.recv(value, rank)
            else:
                value = gradients[name]
            state['gradients'][name] = value.cpu()


def restore(runner: Runner, state: State) -> None:
    """Takes up what `process_state` returned."""
    weights = dict(unwrap_model(runner.model).named_parameters())
    for name, gradient in state.get('gradients', {}).items():
        weights[name].grad = like(gradient, weights[name])
    with torch.no_grad():
        for buffer, value in zip(float_buffers(runner), state.get('buffers', []), strict=False):
            buffer.copy_(value)
    set_random_state(state['random'])


def float_buffers(runner: Runner) -> list[Tensor]:
    """Returns the buffers of a model and its averages that processes have different ones of.

    Those are statistics of BN. The others are counts and tables, the same everywhere.
    """
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    buffers = [buffer for model in (runner.model, *averages) for buffer in model.buffers()]
    return [buffer for buffer in buffers if buffer.is_floating_point()]


def random_state() -> State:
    """Returns the states of the generators of Python, NumPy and torch, of its GPU too."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    key = torch.from_numpy(numpy_state['state']['key'].astype(np.int64))
    return {
        'python': [version, torch.tensor(words), gauss],
        'numpy': numpy_state | {'state': {'key': key, 'pos': numpy_state['state']['pos']}},
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: State) -> None:
    """Sets what `random_state` returned."""
    version, words, gauss = state['python']
    random.setstate((version, tuple(words.tolist()), gauss))
    key = state['numpy']['state']['key'].numpy().astype(np.uint32)
    np.random.set_state(state['numpy'] | {'state': state['numpy']['state'] | {'key': key}})
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())
