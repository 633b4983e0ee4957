"""Batches of a training that are the same whoever loads them and wherever a training goes on."""

import atexit
import ctypes
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler

# They begin no pass anew: what was drawn in all is their place, not what was drawn of a pass.
ENDLESS = ('InfiniteSampler', 'MultiSourceSampler', 'GroupMultiSourceSampler')
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h: the signal that comes when the parent has died
KEPT = 256  # batches whose samples are known still, more than workers load ahead
LEAVING = multiprocessing.RawValue(ctypes.c_bool, False)  # whether this process exits


@dataclass(frozen=True)
class Start:
    """Where a training goes on.

    Attributes:
        batches: That have come before, in all.
        epochs: Complete ones that have come before, where the training counts them.
        batch: Batches of the epoch since, and
        length: of how many.
    """

    batches: int = 0
    epochs: int | None = None
    batch: int = 0
    length: int = 0


class Draw(int):
    """The index of a sample, with the place of this draw in the training."""

    place: tuple[int, ...]

    def __new__(cls, index: int, place: tuple[int, ...]) -> 'Draw':
        draw = super().__new__(cls, index)
        draw.place = place
        return draw

    def __reduce__(self) -> tuple[type['Draw'], tuple[int, tuple[int, ...]]]:
        return Draw, (int(self), self.place)


class NumberedBatches(Sampler[list[Draw]]):
    """The batches of another batch sampler as `Draw`s, from some batch on.

    What comes before is drawn from the sampler, but not loaded: a second for millions of samples.

    Args:
        sampler: Sampler of a data set.
        batch_size: Samples in a batch.
        batches: Config of the batch sampler, which gets these two.
        seed: Of the training.
        start: Where it goes on.
        allowed: How many samples may be left out, see `SeededItems`.

    Attributes:
        passes: How often all samples have come before the start.
        skipped: Batches of the pass that the start is in.
        drawn: The last batches, by their numbers.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        batches: dict[str, Any],
        seed: int,
        start: Start,
        allowed: int = 0,
    ) -> None:
        self.sampler, self.batch_size, self.seed = sampler, batch_size, seed
        self.allowed = allowed
        given = dict(sampler=sampler, batch_size=batch_size)
        self.batches = DATA_SAMPLERS.build(batches, default_args=given)
        self.number = start.batches
        self.is_endless = any(kind.__name__ in ENDLESS for kind in type(sampler).__mro__)
        self.passes, self.skipped = 0, start.batches
        if start.epochs is not None:
            # With other data, the epoch begins anew.
            self.passes = start.epochs
            self.skipped = start.batch if start.length == len(self) else 0
        elif not self.is_endless:
            self.passes, self.skipped = divmod(start.batches, len(self))
        self.drawn: dict[int, list[Draw]] = {}
        self._is_first = True

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        if self._is_first and hasattr(self.sampler, 'set_epoch'):
            # mmengine's hook sets that of the loop, which is 0 in all of one that counts none.
            self.sampler.set_epoch(self.passes)
        batches = iter(self.batches)
        skipped, self._is_first = self.skipped if self._is_first else 0, False
        for _ in islice(batches, skipped):
            pass
        epoch = getattr(self.sampler, 'epoch', None)
        if epoch is not None and not self.is_endless:
            # Others, as a hook for BN, may go through the data in between.
            self.number = epoch * len(self) + skipped
        for batch in batches:
            number, self.number = self.number, self.number + 1
            origin = (self.seed, get_rank(), number)
            draws = [Draw(index, (*origin, place)) for place, index in enumerate(batch)]
            self.drawn.pop(number, None)  # for it to be the last one now
            self.drawn[number] = draws
            if len(self.drawn) > KEPT:
                del self.drawn[next(iter(self.drawn))]
            yield draws


class CalmWorker:
    """Starts a worker of a DataLoader as before, and lets it leave signals to its parent.

    They come to all processes, from a terminal or a cluster; the samples of the step that is to be
    finished then are still needed. The parent ends its workers by SIGTERM, too, when it exits.

    Where the parent is killed, the system ends them. One that had more to hand over than a pipe
    holds, as masks, would wait for ever for somebody to take it.
    """

    def __init__(self, start: Callable[[int], None] | None) -> None:
        self.start, self.leaving = start, LEAVING

    def __call__(self, worker_id: int) -> None:
        if self.start is not None:
            self.start(worker_id)
        for each in (signal.SIGINT, signal.SIGUSR1):
            signal.signal(each, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.leave_with_parent)
        if sys.platform == 'linux':
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def leave_with_parent(self, number: int, frame: object) -> None:
        """Handles SIGTERM."""
        if self.leaving.value:
            os._exit(0)


@atexit.register  # after that of multiprocessing, which therefore comes second
def leave() -> None:
    """Lets workers know that this process exits."""
    LEAVING.value = True


def number_batches(
    cfg: dict[str, Any], seed: int, start: Start, allowed: int = 0
) -> dict[str, Any]:
    """Returns the config of a DataLoader, with `NumberedBatches` in it."""
    cfg = dict(cfg)
    drop_last = cfg.pop('drop_last', False)
    inner = cfg.get('batch_sampler') or dict(type=BatchSampler, drop_last=drop_last)
    ours = dict(type=NumberedBatches, batches=inner, seed=seed, start=start, allowed=allowed)
    cfg['batch_sampler'] = ours
    return cfg


def seed_all(entropy: tuple[int, ...]) -> None:
    """Seeds the generators of Python, NumPy and torch on the CPU."""
    words = np.random.SeedSequence(entropy).generate_state(4).tolist()
    random.seed(words[0])
    np.random.seed(words[1])
    torch.default_generator.manual_seed(words[2] << 32 | words[3])


@contextmanager
def keep_random_state() -> Iterator[None]:
    """Restores the generators of Python, NumPy and torch on the CPU in the end."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
