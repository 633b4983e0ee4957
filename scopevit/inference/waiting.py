"""Images on their way through the network."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scopevit.errors import InputError
from scopevit.inference.sources import Item

# What is told of a damaged image instead of raising an error.
Skipped = Callable[[InputError], None]


@dataclass(eq=False)
class Waiting:
    """An image on its way through the network.

    Attributes:
        item: What it is.
        pixels: As decoded for the pipeline.
        inputs: What the pipeline made of it: one for the network, or one a box.
        outputs: What the network has predicted, in their order.
    """

    item: Item
    pixels: np.ndarray
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return None not in self.outputs


def leave_out_damaged(
    images: Iterable[Waiting | InputError], skipped: Skipped | None
) -> Iterator[Waiting]:
    """Yields images; tells of the errors that stand for some, or raises them."""
    for image in images:
        if not isinstance(image, InputError):
            yield image
        elif skipped is None:
            raise image
        else:
            skipped(image)


def in_groups(waiting: Iterable[Waiting], size: int) -> Iterator[list[Waiting]]:
    """Yields images in groups of a size, the last perhaps smaller."""
    group: list[Waiting] = []
    for image in waiting:
        group.append(image)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
