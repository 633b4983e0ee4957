"""Whether the loss falls where a model may overfit eight images."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.runner import Runner, set_random_seed
from rich.progress import track

from scopevit.engine.model import unwrap_model
from scopevit.preflight.report import ModelReport
from scopevit.preflight.steps import param_groups, take_step

IMAGES = 8
CANDIDATES = 64
STEPS, SECONDS = 40, 40.0
FEWEST = 12  # steps that tell anything
# Of the config's learning rate. There is no warm-up: the pose of configs/demo falls to a hundredth
# by a tenth of its rate, and hardly by all of it. Of a rate for fine-tuning a tenth is little.
RATES = (0.1, 1.0, 0.01)
FALLEN = 0.9  # of the first losses; batches are the same every time, so it is no chance
RISEN = 1.1


@dataclass(frozen=True)
class Fit:
    """How the loss went.

    Attributes:
        rate: Share of the config's learning rate.
        steps: How many were taken.
        first: Mean loss of the first pass over the images.
        last: Of the last.
        judged: Whether there were enough steps.
    """

    rate: float
    steps: int
    first: float
    last: float
    judged: bool

    @property
    def falls(self) -> bool:
        """Whether the loss is clearly lower in the end."""
        return self.last < FALLEN * self.first

    def __str__(self) -> str:
        return f'{self.first:.3g} -> {self.last:.3g} in {self.steps} steps'


def check_overfit(runner: Runner, report: ModelReport, say: Callable[[str], object]) -> None:
    """Trains on eight images, and at other learning rates where the loss does not fall."""
    batches = draw_images(runner)
    if not batches:
        report.add(
            'error', 'no labels', 'train_dataloader',
            f'no label counts after the train pipeline, in {CANDIDATES} images or all: crops leave '
            'no object, or all labels are ignored'
        )  # fmt: skip
        return
    share = min(1.0, IMAGES / runner.train_dataloader.batch_sampler.batch_size)
    if FEWEST * share * report.network > SECONDS:
        report.add(
            'note', 'overfitting not tried', 'train_dataloader',
            f'{FEWEST} steps on {IMAGES} images would take longer than {SECONDS:g} s'
        )  # fmt: skip
        return
    model = unwrap_model(runner.model)
    make_repeatable(model)
    start = copy.deepcopy(model.state_dict())
    fits: list[Fit] = []
    for rate in RATES:
        say(f'overfitting {IMAGES} images at {rate:g} times the learning rate, {STEPS} steps')
        model.load_state_dict(start)
        fits.append(fit(runner, batches, rate))
        if fits[-1].falls or not fits[-1].judged:
            break
    if fits[-1].judged:
        report.facts.append(('loss on eight images', str(fits[-1 if fits[-1].falls else 0])))
    judge(fits, max(group.get('initial_lr', group['lr']) for group in param_groups(runner)), report)


def judge(fits: list[Fit], rate: float, report: ModelReport) -> None:
    """Adds a finding where the loss does not fall at a learning rate, as it should.

    Args:
        fits: At the rates of `RATES`, up to the first at which it falls.
        rate: The config's.
        report: Is given the finding.
    """
    first, where = fits[0], 'optim_wrapper.optimizer.lr'
    tried = '; '.join(f'at {f.rate * rate:.2g} {f}' for f in fits)
    if not fits[-1].judged:
        report.add(
            'note', 'overfitting not judged', 'train_dataloader',
            f'{fits[-1].steps} steps took {SECONDS:g} s, too few to tell whether the loss falls'
        )  # fmt: skip
    elif fits[-1].falls and fits[-1].rate < RATES[0]:
        report.add(
            'warning', 'learning rate high', where,
            f'on eight images the loss falls at a hundredth of the learning rate {rate:g} alone: '
            f'{tried}'
        )  # fmt: skip
    elif not fits[-1].falls and not any(f.last < RISEN * first.first for f in fits):
        report.add(
            'error', 'loss rises on eight images', where,
            f'the loss rises, the learning rate {rate:g} is too high: {tried}'
        )  # fmt: skip
    elif not fits[-1].falls:
        report.add(
            'warning', 'loss does not fall on eight images', where,
            f'a learning rate of {rate:g} that is too low or too high, frozen parts of the model, '
            f'or labels that do not count: {tried}'
        )  # fmt: skip


def draw_images(runner: Runner) -> list[Any]:
    """Returns batches of eight images with labels, less where there are less.

    Each has gone through the train pipeline once, so that they are the same in every step.
    """
    loader = runner.train_dataloader
    dataset = loader.dataset
    set_random_seed(0)
    chosen: list[Any] = []
    for i in torch.randperm(len(dataset))[:CANDIDATES].tolist():
        packed = dataset[i]
        if has_labels(packed['data_samples'], getattr(dataset, 'ignore_index', 255)):
            chosen.append(packed)
        if len(chosen) == IMAGES:
            break
    # No larger than in training, for the memory.
    size = min(IMAGES, loader.batch_sampler.batch_size)
    return [loader.collate_fn(chosen[i : i + size]) for i in range(0, len(chosen), size)]


def has_labels(sample: Any, ignore_index: int) -> bool:
    """Whether a sample of any of the libraries has something to learn from."""
    if 'gt_sem_seg' in sample:
        return bool((sample.gt_sem_seg.data != ignore_index).any())
    poses = sample.get('gt_instance_labels')
    if poses is not None and 'keypoint_weights' in poses:
        return bool((poses.keypoint_weights > 0).any())
    return 'gt_instances' not in sample or len(sample.gt_instances) > 0


def make_repeatable(model: Any) -> None:
    """Switches off what makes the loss of a batch a matter of chance.

    Mixed images have mixed labels, below whose entropy the loss cannot fall.
    """
    model.train()
    if getattr(model.data_preprocessor, 'batch_augments', None) is not None:
        model.data_preprocessor.batch_augments = None
    for module in model.modules():
        if 'Drop' in type(module).__name__ or type(module).__name__ == 'StochasticDepth':
            module.eval()  # dropout and drop path of any library


def fit(runner: Runner, batches: list[Any], rate: float) -> Fit:
    """Trains with the config's optimizer, at a share of its rate without schedule."""
    settings = copy.deepcopy(runner.cfg.optim_wrapper)
    if settings.get('accumulative_counts'):
        settings.accumulative_counts = 1
    optim_wrapper = runner.build_optim_wrapper(settings)
    for new, old in zip(optim_wrapper.optimizer.param_groups, param_groups(runner)):
        new['lr'] = rate * old.get('initial_lr', old['lr'])
    set_random_seed(0)  # detectors sample proposals
    start, losses = time.perf_counter(), list[float]()
    for i in track(range(STEPS), 'overfitting:', transient=True):
        losses.append(take_step(runner.model, optim_wrapper, batches[i % len(batches)])['loss'])
        if not math.isfinite(losses[-1]) or time.perf_counter() - start > SECONDS:
            break
    count = min(len(batches), len(losses))
    return Fit(
        rate=rate,
        steps=len(losses),
        first=sum(losses[:count]) / count,
        last=sum(losses[-count:]) / count,
        judged=len(losses) >= max(FEWEST, 2 * count) or not math.isfinite(losses[-1]),
    )
