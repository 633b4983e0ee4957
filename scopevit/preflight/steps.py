"""Training steps on real batches: losses, gradients, memory and time."""

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from scopevit.benchmark.memory import peak_memory
from scopevit.engine.model import unwrap_model
from scopevit.preflight.report import ModelReport

SHOWN = 3  # names of parameters in a message


@dataclass
class Gradients:
    """What the gradients of some steps were.

    Attributes:
        missing: Names of the trained parameters that had none.
        infinite: Names of those whose gradient was not finite.
    """

    missing: set[str]
    infinite: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class StepTime:
    """What a training step takes, in seconds.

    Attributes:
        network: Forward and backward pass and the optimizer.
        loading: A batch, by one process.
        workers: Processes that load beside the network; without any it waits for the batch.
    """

    network: float
    loading: float
    workers: int

    @property
    def waiting(self) -> float:
        """How long the network waits for a batch, at least."""
        if not self.workers:
            return self.loading
        processes = min(self.workers, os.cpu_count() or 1)
        return max(0.0, self.loading / processes - self.network)

    @property
    def step(self) -> float:
        """The whole step."""
        return self.network + self.waiting


def check_steps(runner: Runner, report: ModelReport, say: Callable[[str], object]) -> None:
    """Takes two steps that are followed and two that are timed."""
    model = unwrap_model(runner.model)
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    report.facts.append(
        ('parameters', f'{count / 1e6:.2f} M, {trained / 1e6:.2f} M of them trained')
    )
    check_optimizer(runner, report, trained)
    if report.failed:
        return
    say('loading two batches')
    batches, loading = draw_batches(runner.train_dataloader)
    say('taking two training steps, to follow memory and gradients, and two to take the time')
    runner.model.train()
    losses: list[dict[str, float]] = []
    with watch_gradients(model) as gradients:
        memory = step_memory(
            runner, lambda: losses.extend(take_step(runner.model, runner.optim_wrapper, batch)
                                          for batch in batches)
        )  # fmt: skip
    check_losses(losses, report)
    scaled = hasattr(runner.optim_wrapper, 'loss_scaler')  # finds its scale by gradients of inf
    check_gradients(gradients, report, scaled, runner.cfg.get('find_unused_parameters', False))
    report.network = timed(runner, batches)
    times = StepTime(report.network, loading, runner.train_dataloader.num_workers)
    device = next(model.parameters()).device.type
    terms = ', '.join(f'{name} {value:.4g}' for name, value in losses[0].items())
    report.facts += [
        ('memory of a step', f'{memory / 2**30:.2f} GiB of tensors on {device}'),
        ('losses of the first step', terms),
        *time_facts(runner, times),
    ]
    check_loading(times, report)


def check_optimizer(runner: Runner, report: ModelReport, trained: int) -> None:
    """Finds that nothing is trained, or at a rate of 0."""
    if not trained:
        report.failed = True
        report.add(
            'error', 'nothing is trained', 'model', 'no parameter of the model is trained: frozen_'
            'stages or a frozen backbone leave nothing, requires_grad is False throughout'
        )  # fmt: skip
    elif not any(group.get('initial_lr', group['lr']) for group in param_groups(runner)):
        report.failed = True
        report.add(
            'error', 'learning rate 0', 'optim_wrapper.optimizer.lr',
            'the learning rate is 0 for all parameters: set optim_wrapper.optimizer.lr'
        )  # fmt: skip


def param_groups(runner: Runner) -> list[dict[str, Any]]:
    """Returns the groups of parameters of all optimizers."""
    wrapper = runner.optim_wrapper
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return [group for part in wrappers for group in part.optimizer.param_groups]


def draw_batches(loader: Any) -> tuple[list[Any], float]:
    """Returns two batches of a loader, and the seconds in which this process loads one."""
    dataset, count = loader.dataset, loader.batch_sampler.batch_size
    # Any images: a sampler that repeats without end cannot be asked twice.
    indices = torch.randperm(len(dataset))[:count].tolist()
    start = time.perf_counter()
    loader.collate_fn([dataset[i] for i in indices])
    seconds = time.perf_counter() - start
    batches = iter(loader)
    first = next(batches)
    return [first, next(batches, first)], seconds


def take_step(model: Any, optim_wrapper: Any, batch: Any) -> dict[str, float]:
    """Takes a training step; returns its losses by name, the sum of them as 'loss'.

    The batch stays as it is: some preprocessors pad its label maps in place.
    """
    values = model.train_step(copy.deepcopy(batch), optim_wrapper=optim_wrapper)
    return {name: value.item() for name, value in values.items() if 'loss' in name}


def step_memory(runner: Runner, run: Callable[[], object]) -> int:
    """Returns the bytes of tensors in use at the peak of a run, with what was there before."""
    device = next(runner.model.parameters()).device.type
    if device == 'cuda':
        return torch.cuda.memory_allocated() + peak_memory(run, device)
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    tensors = [t for m in (runner.model, *averages) for t in (*m.parameters(), *m.buffers())]
    return sum(t.nbytes for t in tensors) + peak_memory(run, 'cpu')


def timed(runner: Runner, batches: list[Any]) -> float:
    """Returns the mean seconds of a step, without loading."""
    on_gpu = next(runner.model.parameters()).is_cuda
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for batch in batches:
        take_step(runner.model, runner.optim_wrapper, batch)
    if on_gpu:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / len(batches)


@contextmanager
def watch_gradients(model: nn.Module) -> Iterator[Gradients]:
    """Follows the gradients of all steps inside."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = Gradients(set(trained))

    def follow(name: str) -> Callable[[torch.Tensor], None]:
        def look(parameter: torch.Tensor) -> None:
            found.missing.discard(name)
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                found.infinite.add(name)

        return look

    # The optimizer wrapper clips gradients and throws them away before anybody else sees them.
    handles = [p.register_post_accumulate_grad_hook(follow(name)) for name, p in trained.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def check_losses(losses: list[dict[str, float]], report: ModelReport) -> None:
    """Finds losses that are no numbers, and such as nothing contributes to."""
    for i, terms in enumerate(losses):
        wrong = [name for name, value in terms.items() if not math.isfinite(value)]
        if wrong:
            cause = 'learning rate too high' if i else 'labels or images with values out of range'
            report.failed = True
            report.add(
                'error', 'loss not finite', 'model',
                f'{wrong[0]} is {terms[wrong[0]]} in step {i + 1}: {cause}?'
            )  # fmt: skip
            return
    zero = [name for name in losses[0] if all(terms.get(name) == 0 for terms in losses)]
    if 'loss' in zero:
        report.failed = True
        report.add(
            'error', 'loss 0', 'train_dataloader',
            'the loss is 0 in both steps, so there is nothing to learn: all labels are ignored?'
        )  # fmt: skip
    elif zero:
        report.add(
            'warning', 'part of the loss 0', 'train_dataloader',
            f'{", ".join(zero)} of both steps is 0: no annotated object takes part in it (labels '
            'ignored, or no anchor that fits)', len(zero)
        )  # fmt: skip


def check_gradients(
    gradients: Gradients, report: ModelReport, scaled: bool, unused_allowed: bool
) -> None:
    """Finds gradients that are no numbers, and parameters without one."""
    if gradients.infinite and not scaled and not report.failed:
        report.failed = True
        report.add(
            'error', 'gradient not finite', 'model',
            f'the gradient of {some(gradients.infinite)} is not finite while the loss is: '
            'optim_wrapper.optimizer.lr too high?',
            len(gradients.infinite)
        )  # fmt: skip
    if gradients.missing:
        count = len(gradients.missing)
        report.add(
            'note' if unused_allowed else 'warning', 'parameters without gradient', 'model',
            f'{count} parameters have no gradient and are not trained: {some(gradients.missing)}; '
            'freeze them (requires_grad), or set find_unused_parameters=True for several GPUs',
            count
        )  # fmt: skip


def some(names: set[str]) -> str:
    """Returns the first few of some names."""
    return ', '.join(sorted(names)[:SHOWN]) + (', ...' if len(names) > SHOWN else '')


def time_facts(runner: Runner, times: StepTime) -> list[tuple[str, str]]:
    """Returns how long a step, an epoch and the training take."""
    loop, length = runner.train_loop, len(runner.train_dataloader)
    steps = loop.max_iters
    unit = 'a pass over the data' if isinstance(loop, IterBasedTrainLoop) else 'an epoch'
    return [
        (
            'time of a step',
            f'{times.step:.2g} s: network {times.network:.2g} s, waiting for data '
            f'{times.waiting:.2g} s ({times.loading:.2g} s a batch, {times.workers} processes)',
        ),
        (f'time of {unit}', f'{duration(length * times.step)} for {length} steps'),
        ('time of the training', f'{duration(steps * times.step)} for {steps} steps'),
    ]


def duration(seconds: float) -> str:
    """Returns a time in two units at most."""
    if seconds < 60:
        return f'{seconds:.2g} s'
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // (24 * 60)
    if days:
        return f'{days} d {hours % 24} h'
    return f'{hours} h {minutes % 60} min' if hours else f'{minutes} min'


def check_loading(times: StepTime, report: ModelReport) -> None:
    """Says where the network waits longer for data than it computes."""
    if times.waiting <= times.network:
        return
    wanted = math.ceil(times.loading / times.network)
    report.add(
        'note', 'loading bounds the training', 'train_dataloader.num_workers',
        f'a batch takes {times.loading:.2g} s to load by one process, the network '
        f'{times.network:.2g} s: {wanted} processes would keep up, num_workers is {times.workers} '
        f'on {os.cpu_count()} CPU cores'
    )  # fmt: skip
