"""How long to train, and in which batches: from the number of images, their size and the memory."""

import math
import os
from dataclasses import dataclass

import torch

from scopevit.errors import InputError

# A training from new weights on few images takes some hundred steps before it shows anything; those
# of configs/demo, which do, take 220 to 370.
MIN_STEPS = 600
LEAST_STEPS = 4  # two of warm-up, two after it
MEMORY_SHARE = 0.5  # the rest is for what the predictions leave out


@dataclass(frozen=True)
class Recipe:
    """A recipe that configs for own data inherit.

    Attributes:
        base: Its file in configs/_base_/own_data.
        name: What to call its network around the backbone.
        batch_size: Images, or people, a step, where memory and data allow it.
        epochs: The least.
        learning_rate: That of the file, for batches of this size.
        gib_a_megapixel: Memory of a training step, as `tools/benchmark/predict.py` predicts it for
            the tiny size in float32.
        drop_last: Whether an incomplete batch is left out.
    """

    base: str
    name: str
    batch_size: int
    epochs: int
    learning_rate: float
    gib_a_megapixel: float
    drop_last: bool = True


RECIPES = {
    recipe.base: recipe
    for recipe in (
        Recipe('classification', '', 64, 30, 2e-3, 2.0),
        Recipe('mask-rcnn', 'Mask R-CNN', 4, 12, 1e-3, 2.7, drop_last=False),
        Recipe('retinanet', 'RetinaNet', 4, 12, 1e-3, 2.5, drop_last=False),
        Recipe('fpn', 'Semantic FPN', 8, 50, 2e-3, 4.0),
        Recipe('td-hm', 'Top-down pose', 32, 60, 2e-3, 2.3),
    )
}


@dataclass(frozen=True)
class Schedule:
    """A schedule, in epochs but for what says steps."""

    samples: int
    batch_size: int
    steps: int  # an epoch
    epochs: int
    warmup: int  # steps
    log_interval: int  # steps
    val_interval: int
    learning_rate: float


def make_schedule(
    recipe: Recipe,
    samples: int,
    pixels: int,
    epochs: int | None = None,
    memory: float | None = None,
) -> Schedule:
    """Returns a schedule.

    Args:
        recipe: Recipe to shorten or lengthen.
        samples: How many there are to train on.
        pixels: Of an image as the network sees it.
        epochs: How many to train; by default those of the recipe, more where the steps are few.
        memory: In GiB; by default that of the first GPU, or of the machine where there is none.

    Raises:
        InputError: If there are too few samples for a batch, or too few epochs.
    """
    least = 2 if recipe.drop_last else 1
    if samples < least:
        raise InputError(f'{samples} samples to train on; it takes {least} or more')
    memory = free_memory() if memory is None else memory
    batch_size = recipe.batch_size
    # Eight batches an epoch at least, and two images a batch for batch norm.
    while batch_size > 2 and (
        batch_size * pixels / 1e6 * recipe.gib_a_megapixel > memory * MEMORY_SHARE
        or batch_size * 8 > samples
    ):
        batch_size //= 2
    whole, rest = divmod(samples, batch_size)
    steps = whole + bool(rest and not recipe.drop_last)
    epochs = epochs or max(recipe.epochs, math.ceil(MIN_STEPS / steps))
    total = steps * epochs
    if total < LEAST_STEPS:
        raise InputError(
            f'--epochs {epochs}: that is {total} steps; it takes {LEAST_STEPS} or more'
        )
    return Schedule(
        samples,
        batch_size,
        steps,
        epochs,
        warmup=min(500, max(2, total // 15)),  # by one step, LinearLR never ends
        log_interval=min(50, max(1, steps // 4)),
        val_interval=max(1, epochs // 15),
        # Adam's noise falls with the root of the batch.
        learning_rate=float(
            f'{recipe.learning_rate * math.sqrt(batch_size / recipe.batch_size):.2g}'
        ),
    )


def free_memory() -> float:
    """Returns the memory of the first GPU, or of the machine where there is none, in GiB."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory / 2**30)
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
