"""Ids of COCO's files: what the libraries and the evaluation take for granted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from scopevit.engine.checks.coco import CocoFile
from scopevit.errors import InputError


class Problem(NamedTuple):
    """What is wrong with some ids.

    Attributes:
        what: In a few words, as a row of a table has it.
        number: How many there are.
        text: One line that names the file and the first one, and says what would be right.
    """

    what: str
    number: int
    text: str


def check_ids(coco: CocoFile, path: Path, scope: str, evaluates: bool = True) -> None:
    """Raises an InputError where ids of a file would end a test, or make its metric another."""
    for problem in id_problems(coco, path, scope, evaluates):
        raise InputError(problem.text)


def id_problems(coco: CocoFile, path: str | Path, scope: str, evaluates: bool) -> Iterator[Problem]:
    """Yields what is wrong with the ids of a file.

    pycocotools keeps by its id one image, annotation or category each, and drops others in silence.

    Args:
        coco: What the file has.
        path: The file, for messages.
        scope: The library that reads it.
        evaluates: Whether predictions are compared with it.
    """
    for name, ids in (
        ('images', coco.image_ids),
        ('annotations', coco.ids),
        ('categories', coco.categories),
    ):
        count = sum(key is None for key in ids)
        if count:
            place = next(i for i, key in enumerate(ids) if key is None)
            text = f'{path}: {name}[{place}] has no id: give each an id of its own'
            yield Problem(f'{name} without id', count, text)
        twice = [key for key in coco.repeated.get(name, []) if key is not None]
        if twice:
            text = f'{path}: id {twice[0]} is there twice among {name}: make ids unique'
            yield Problem(f'ids of {name} repeated', len(twice), text)
    ownerless = [key for key, ref in zip(coco.ids, coco.image_refs) if ref is None]
    if ownerless:
        text = f'{path}: annotation {ownerless[0]} has no image_id: give it that of its image'
        yield Problem('annotations without image_id', len(ownerless), text)
    yield from image_ids(coco, path, scope)
    texts = [key for key in coco.ids if isinstance(key, str)]
    if evaluates and texts:
        text = f'{path}: the id {texts[0]!r} of an annotation must be a number for the evaluation'
        yield Problem('ids of annotations that are no numbers', len(texts), text)


def image_ids(coco: CocoFile, path: str | Path, scope: str) -> Iterator[Problem]:
    """Yields ids of images of a kind that a library cannot use: mmdet takes texts, mmpose none."""
    ids = [key for key in coco.image_ids if key is not None]
    broken = [key for key in ids if not is_whole(key)]
    if scope == 'mmpose' and broken:
        text = (
            f'{path}: the id {broken[0]!r} of an image must be a whole number for mmpose, as must '
            'image_id of annotations'
        )
        yield Problem('ids of images that are no numbers', len(broken), text)
    texts = [key for key in ids if isinstance(key, str)]
    if scope != 'mmpose' and 0 < len(texts) < len(ids):
        other = next(key for key in ids if not isinstance(key, str))
        text = (
            f'{path}: the ids of images are texts ({texts[0]!r}) and numbers ({other!r}), which '
            'the evaluation cannot sort: make all of them numbers'
        )
        yield Problem('ids of images of two kinds', len(texts), text)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, also one with a point."""
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
