"""Batches that are the same whoever loads them, from wherever they start."""

import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset

from scopevit.engine.batches import (
    Draw,
    NumberedBatches,
    Start,
    keep_random_state,
)
from scopevit.engine.samples import make_repeatable

FIRST = Start(0, 0)


class Numbers(Dataset):
    """Random numbers of every generator, and which samples were loaded."""

    def __init__(self) -> None:
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        self.loaded.append(index)
        return index, random.random(), np.random.rand(), torch.rand(1).item()


def batches(start: Start, kind: type = DefaultSampler, **options: Any) -> NumberedBatches:
    sampler = kind(Numbers(), seed=3, **options)
    inner = dict(type=BatchSampler, drop_last=False)
    return NumberedBatches(sampler, 4, inner, seed=5, start=start)


def loader(start: Start = FIRST, kind: type = DefaultSampler, workers: int = 0) -> DataLoader:
    numbered = batches(start, kind)
    loader = DataLoader(
        numbered.sampler.dataset, batch_sampler=numbered, num_workers=workers, collate_fn=list
    )
    make_repeatable(loader, 0)
    return loader


def test_a_draw_is_an_index_that_travels() -> None:
    draw = pickle.loads(pickle.dumps(Draw(7, (1, 2, 3))))
    assert (draw, draw.place) == (7, (1, 2, 3))
    assert [*range(9)][draw] == 7


@pytest.mark.parametrize(
    ('start', 'passes', 'skipped'),
    [
        (Start(0, 0), 0, 0),
        (Start(7, 2, 1, 3), 2, 1),
        (Start(9, 2, 3, 3), 2, 3),  # stopped at the last batch
        (Start(7, 2, 1, 4), 2, 0),  # of other data
        (Start(6, 2), 2, 0),
        (Start(7), 2, 1),  # counts no epochs
    ],
)
def test_where_they_start(start: Start, passes: int, skipped: int) -> None:
    numbered = batches(start)
    assert (numbered.passes, numbered.skipped) == (passes, skipped)


def test_what_comes_before_is_not_loaded() -> None:
    sampler = DefaultSampler(Numbers(), seed=3)
    sampler.set_epoch(1)
    expected = list(BatchSampler(sampler, 4, drop_last=False))[1:]
    resumed = loader(Start(4, 1, 1, 3))
    found = [[sample[0] for sample in batch] for batch in resumed]
    assert found == expected
    assert resumed.dataset.loaded == [index for batch in expected for index in batch]


@pytest.mark.parametrize('workers', [0, 1, 2])
def test_numbers_depend_on_the_place_alone(workers: int) -> None:
    whole = list(loader(Start(0)))
    iterator = iter(loader(Start(2), InfiniteSampler, workers))
    for each in (random.seed, np.random.seed, torch.manual_seed):
        each(99)
    infinite = iter(loader(Start(0), InfiniteSampler))
    expected = [next(infinite) for _ in range(5)][2:]
    assert [next(iterator) for _ in range(3)] == expected
    numbers = {value for batch in whole for sample in batch for value in sample[1:]}
    assert len(numbers) == 30  # no two samples have any in common


def test_a_model_draws_as_if_no_sample_was_loaded() -> None:
    with keep_random_state():
        expected = random.random(), np.random.rand(), torch.rand(1).item()
    list(loader())
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
