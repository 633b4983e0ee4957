"""Samples of a training: each with random numbers of its own, and those that cannot be loaded."""

import copy
import multiprocessing
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from logging import WARNING
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch.utils.data import DataLoader, Dataset, get_worker_info

from scopevit.engine.batches import CalmWorker, Draw, NumberedBatches, keep_random_state, seed_all
from scopevit.errors import InputError, error_text

LEFT_OUT = 'left_out'  # of the meta of a checkpoint: samples its training did without
SHOWN = 100  # of these, beside metrics


class SeededItems:
    """Gets samples of a data set, for each `Draw` with random numbers of its own.

    These depend on the seed of the training and the place of the draw in it, not on the process
    that loads the sample nor on what it has loaded before.

    A sample that cannot be loaded ends the training, unless some may be left out. Then the one
    after it takes its place, the same in every epoch.

    Args:
        dataset: The data set.
        allowed: How many samples may be left out, in this process and its workers.
    """

    def __init__(self, dataset: Dataset[Any], allowed: int = 0) -> None:
        self.dataset, self.allowed = dataset, allowed
        # How many, and which; workers share them.
        self._left_out = multiprocessing.RawArray('q', allowed + 1)
        self._lock = multiprocessing.Lock()

    def __call__(self, draws: list[int]) -> list[Any]:
        in_worker = get_worker_info() is not None
        # A model draws from the same generators, in the process that trains.
        keeping: AbstractContextManager[None] = nullcontext() if in_worker else keep_random_state()
        with keeping:
            return [self.get(draw) for draw in draws]

    def __deepcopy__(self, memo: dict[int, Any]) -> 'SeededItems':
        # Hooks copy data sets; what processes share cannot be copied.
        return SeededItems(copy.deepcopy(self.dataset, memo), self.allowed)

    @property
    def left_out(self) -> list[int]:
        """The samples that were left out."""
        return list(self._left_out[1 : self._left_out[0] + 1])

    def remember(self, indices: list[int]) -> None:
        """Counts samples that were left out before the training went on, as many as may be."""
        with self._lock:
            known = self.left_out
            known += [index for index in indices if index not in known][: self.allowed - len(known)]
            self._left_out[: len(known) + 1] = [len(known), *known]

    def get(self, draw: int) -> Any:
        """Returns a sample; generators are left as its random numbers leave them."""
        if not isinstance(draw, Draw):
            return self.dataset[draw]
        count = len(self.dataset)  # type: ignore[arg-type]
        for index in (int(draw) + i for i in range(count)):
            seed_all(draw.place)
            try:
                return self.dataset[index % count]
            except Exception as error:  # of whatever reads or changes the sample
                if not self.allowed:
                    raise
                self.leave_out(index % count, error)
        raise InputError(f'none of {count} samples can be loaded')

    def leave_out(self, index: int, error: Exception) -> None:
        """Counts a sample that cannot be loaded, once.

        Raises:
            InputError: If it is one too many.
        """
        with self._lock:
            if index in self.left_out:
                return
            said = f'sample {index} ({self.path_of(index)}): {error_text(error)}'
            if self._left_out[0] == self.allowed:
                raise InputError(
                    f'more samples cannot be loaded than --skip-bad-samples {self.allowed}: {said}'
                ) from error
            self._left_out[0] += 1
            self._left_out[self._left_out[0]] = index
        print_log(f'left out {said}', logger='current', level=WARNING)

    def path_of(self, index: int) -> str | None:
        """Returns the file of a sample, where its data set tells."""
        find = getattr(self.dataset, 'get_data_info', None)
        info = find(index) if find else {}
        path = info.get('img_path') if isinstance(info, dict) else None
        return str(path) if path else None


def make_repeatable(loader: DataLoader[Any], seed: int) -> None:
    """Lets a DataLoader depend on no random state of the process, and that not on the loader."""
    loader.generator = torch.Generator().manual_seed(seed)  # of the seeds of its workers
    loader.worker_init_fn = CalmWorker(loader.worker_init_fn)
    batches = loader.batch_sampler
    if isinstance(batches, NumberedBatches):
        vars(loader)['batch_size'] = batches.batch_size  # which some hooks of the libraries read
        dataset: Any = loader.dataset
        # By which DataLoader gets a batch.
        dataset.__getitems__ = SeededItems(dataset, batches.allowed)


def items_of(loader: DataLoader[Any]) -> SeededItems | None:
    """Returns what gets the samples of a training."""
    items = getattr(loader.dataset, '__getitems__', None)
    return items if isinstance(items, SeededItems) else None


def left_out_of(loader: DataLoader[Any]) -> list[int]:
    """Returns which samples this process has left out."""
    items = items_of(loader)
    return [] if items is None else items.left_out


def describe_samples(loader: DataLoader[Any], indices: Iterable[int]) -> list[dict[str, Any]]:
    """Returns index and file of samples of a training, each once and in their order."""
    items = items_of(loader)
    if items is None:
        return []
    return [{'index': index, 'file': items.path_of(index)} for index in sorted(set(indices))]


def left_out_in_training(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Returns what to tell, beside its metrics, of samples that the training has left out.

    Args:
        checkpoint: That was tested; its `meta` lists them, if there are any.
        path: Of the checkpoint, for messages.

    Returns:
        `left_out_in_training`: how many, and index and file of the first ones. Nothing, where none
        was.

    Raises:
        InputError: If `meta` has something else in their place.
    """
    meta = checkpoint.get('meta')
    samples = meta.get(LEFT_OUT) if isinstance(meta, Mapping) else None
    if samples is None:
        return {}
    if not isinstance(samples, list) or not all(is_described(sample) for sample in samples):
        raise InputError(f'{path}: meta.{LEFT_OUT} must list samples by index and file')
    return {'left_out_in_training': {'count': len(samples), 'samples': samples[:SHOWN]}}


def is_described(sample: object) -> bool:
    """Whether this is one of what `describe_samples` returns."""
    return (
        isinstance(sample, dict)
        and sample.keys() == {'index', 'file'}
        and isinstance(sample['index'], int)
        and isinstance(sample['file'], (str, type(None)))
    )
