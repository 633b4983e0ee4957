"""Classes: whether they occur, how often, and whether all splits mean the same by them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from scopevit.engine.checks.metainfo import shown
from scopevit.preflight.findings import Finding
from scopevit.preflight.samples import Part

IMBALANCE = 20  # times as many of one class as of another


def check_labels(part: Part) -> Iterator[Finding]:
    """Yields labels that are no class."""
    count = len(part.classes)
    if part.scope != 'mmpretrain' or not count or not len(part.labels):
        return
    wrong = (part.labels < 0) | (part.labels >= count)
    if not wrong.any():
        return
    row = int(wrong.argmax())
    image = part.image(row) or f'sample {part.owners[row]}'
    text = (
        f'label [{part.labels[row]}] of {image} is not from 0 to {count - 1}: '
        f'{part.ann_file} ({part.key})'
    )
    if part.labels.min() == 1 and part.labels.max() == count:
        text += '; labels count from 1 on, where they must from 0'
    yield Finding(
        'error', 'labels out of range', part.split, int(wrong.sum()), text, part.images(wrong)
    )


def check_names(part: Part) -> Iterator[Finding]:
    """Yields whether the config names classes in another order than the data number them."""
    names, meanings = part.classes, part.meanings
    if len(names) != len(meanings) or names == meanings or set(names) != set(meanings):
        return
    i = next(i for i, (a, b) in enumerate(zip(names, meanings)) if a != b)
    source = part.ann_file or 'the folders'
    text = (
        f'{part.key}: metainfo.classes calls label {i} {names[i]}, but it is {meanings[i]} by the '
        f'order of {source}: predictions get wrong names; write {shown(meanings)}'
    )
    yield Finding('error', 'names in another order', part.split, len(names), text)


def check_order(parts: list[Part]) -> Iterator[Finding]:
    """Yields whether splits number their classes differently."""
    if not parts or parts[0].scope == 'mmpose':
        return  # mmpose converts between sets of keypoints
    first, told = parts[0], [names_of(parts[0])]
    for part in parts[1:]:
        names = names_of(part)
        if not names or not told[0] or names in told:
            continue
        told.append(names)
        i = next((i for i, (a, b) in enumerate(zip(told[0], names)) if a != b), None)
        i = min(len(told[0]), len(names)) if i is None else i
        a, b = (n[i] if i < len(n) else 'no class' for n in (told[0], names))
        text = (
            f'label {i} is {a} in {first.key} and {b} in {part.key}: the classes must be the same, '
            f'in one order ({shown(told[0])}; {shown(names)})'
        )
        where = f'{first.split}, {part.split}'
        yield Finding('error', 'classes differ', where, 1, text)


def names_of(part: Part) -> tuple[str, ...]:
    """Returns what the labels of a part mean."""
    same = set(part.meanings) == set(part.classes)
    return part.meanings if same and part.meanings else part.classes


def check_occurrence(counts: dict[str, np.ndarray], parts: list[Part]) -> Iterator[Finding]:
    """Yields classes that never occur, and how unequal the others are.

    `counts` has the number of annotations of each class, (C,), by split.
    """
    for split, numbers in counts.items():
        part = next(part for part in parts if part.split == split)
        names, kind = part.classes, 'keypoint' if part.scope == 'mmpose' else 'class'
        plural = 'keypoints' if kind == 'keypoint' else 'classes'
        if not numbers.sum():
            continue  # told as a whole
        never = [name for name, number in zip(names, numbers) if not number]
        if never:
            effect = 'it cannot be learnt' if split == 'train' else 'its metric is NaN'
            text = f'{part.key}: {shown(never)} never occur' + 's' * (len(never) == 1)
            yield Finding('warning', f'{plural} that never occur', split, len(never),
                          f'{text}; {effect}')  # fmt: skip
        there = numbers[numbers > 0]
        if split == 'train' and kind == 'class' and there.max() > IMBALANCE * there.min():
            most, least = names[int(numbers.argmax())], names[int(index_of_least(numbers))]
            text = f'{part.key}: {most} occurs {there.max()} times, {least} {there.min()}'
            yield Finding('note', 'classes are unequal', split, len(there), text)


def index_of_least(numbers: np.ndarray) -> np.intp:
    """Returns the index of the least number above 0."""
    return np.where(numbers > 0, numbers, numbers.max() + 1).argmin()


def numbered(model: dict[str, Any] | None) -> tuple[str, ...]:
    """Returns names for the classes of a classifier whose data tell none, by its config."""
    head = (model or {}).get('head') or model or {}
    count = head.get('num_classes') if isinstance(head, dict) else None
    return tuple(f'label {i}' for i in range(count)) if isinstance(count, int) else ()
