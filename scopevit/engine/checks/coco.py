"""COCO's JSON files as columns, each read once: what the checks of data sets look at."""

import gc
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from scopevit.engine.checks.masks import check_masks
from scopevit.errors import InputError


@dataclass(frozen=True, eq=False)
class CocoFile:
    """Images and annotations of a file, by row, without their masks.

    Attributes:
        keys: Of the file; none where it is a list.
        categories: Names by id, in the order of the file.
        repeated: Ids that several have, by 'images', 'annotations' or 'categories'.
        image_ids: One an image.
        file_names: One an image; '' where there is none.
        sizes: Width and height of the images, (N, 2); 0 where they are not told.
        ids: One an annotation.
        owners: Row of the image of an annotation, -1 where it is none of the file, (M,).
        image_refs: Id of the image that an annotation names.
        category_ids: One an annotation.
        used_categories: All of these, once.
        boxes: xywh, (M, 4); NaN where an annotation has no such box.
        areas: (M,); NaN where it has none.
        crowds: Whether an annotation is a crowd, or to be ignored, (M,).
        lacking: How many annotations lack a key that evaluation takes, or a number for it, by key.
        point_counts: `num_keypoints`, (M,); NaN where an annotation has none.
        keypoint_lengths: Lengths of the lists of keypoints, and how many have it.
        keypoints: x, y and visibility, (M, K, 3), NaN where there are none; None where no
            annotation has any, or the lists differ in length.
        broken_keypoints: Ids of annotations whose keypoints are not all numbers.
    """

    keys: frozenset[str] = frozenset()
    categories: dict[Any, str] = field(default_factory=dict)
    repeated: dict[str, list[Any]] = field(default_factory=dict)
    image_ids: list[Any] = field(default_factory=list)
    file_names: list[str] = field(default_factory=list)
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    ids: list[Any] = field(default_factory=list)
    owners: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    image_refs: list[Any] = field(default_factory=list)
    category_ids: list[Any] = field(default_factory=list)
    used_categories: frozenset[Any] = frozenset()
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    areas: np.ndarray = field(default_factory=lambda: np.zeros(0))
    crowds: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    lacking: dict[str, int] = field(default_factory=dict)
    point_counts: np.ndarray = field(default_factory=lambda: np.zeros(0))
    keypoint_lengths: Counter[int] = field(default_factory=Counter)
    keypoints: np.ndarray | None = None
    broken_keypoints: list[Any] = field(default_factory=list)

    @property
    def is_coco(self) -> bool:
        """Whether the file has images and categories."""
        return {'images', 'categories'} <= self.keys


def read_coco(path: Path, key: str) -> CocoFile:
    """Reads a JSON file; again only where it has changed. `key` of the config is for messages.

    Raises:
        InputError: If it is not JSON, or not what COCO has under its keys.
    """
    stat = path.stat()
    try:
        return read_columns(str(path), stat.st_mtime_ns, stat.st_size)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f'not JSON: {path} ({key}): {error}') from error
    except (AttributeError, TypeError, LookupError, ValueError) as error:
        raise InputError(f'not COCO annotations: {path} ({key}): {error}') from error


def forget_files() -> None:
    """Gives the memory of the files back that were read."""
    read_columns.cache_clear()


@lru_cache(maxsize=8)
def read_columns(path: str, time: int, size: int) -> CocoFile:
    """Reads a file; its time and size are for the cache."""
    with no_collection():
        content = json.loads(Path(path).read_bytes())
        if isinstance(content, list):
            return CocoFile()  # boxes of a detector, say
        if not isinstance(content, dict):
            raise TypeError(f'it is {content!r:.60}')
        if not {'images', 'categories'} <= set(content):
            return CocoFile(frozenset(content))
        return to_columns(content)


@contextmanager
def no_collection() -> Iterator[None]:
    """Leaves garbage collection out, which goes through millions of new dicts again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def to_columns(content: dict[str, Any]) -> CocoFile:
    """Returns the columns of a file's content."""
    images, annotations = content['images'], segments(content.get('annotations') or [])
    image_ids = [image.get('id') for image in images]
    rows = {key: i for i, key in enumerate(image_ids)}
    refs = [a.get('image_id') for a in annotations]
    ids = [a.get('id') for a in annotations]
    category_ids = [a.get('category_id') for a in annotations]
    owners = [rows.get(ref, -1) for ref in refs]
    sizes = [(image.get('height'), image.get('width')) for image in images]
    check_masks(annotations, [sizes[i] if i >= 0 and all(sizes[i]) else None for i in owners])
    areas, crowds, counts = (
        column([a.get(name) for a in annotations]) for name in ('area', 'iscrowd', 'num_keypoints')
    )
    lengths = Counter(len(a['keypoints']) for a in annotations if 'keypoints' in a)
    keypoints = keypoint_columns(annotations, lengths)
    return CocoFile(
        keys=frozenset(content),
        categories={c.get('id'): str(c.get('name')) for c in content['categories']},
        repeated={
            'images': repeated(image_ids),
            'annotations': repeated(ids),
            'categories': repeated([c.get('id') for c in content['categories']]),
        },
        image_ids=image_ids,
        file_names=[str(image.get('file_name') or '') for image in images],
        sizes=numbers([[i.get('width') or 0, i.get('height') or 0] for i in images], 2),
        ids=ids,
        owners=np.array(owners, np.int64),
        image_refs=refs,
        category_ids=category_ids,
        used_categories=frozenset(category_ids),
        boxes=numbers([a.get('bbox') for a in annotations], 4),
        areas=areas,
        crowds=np.array([bool(a.get('iscrowd') or a.get('ignore')) for a in annotations], bool),
        lacking={
            name: int(np.isnan(values).sum())
            for name, values in (('area', areas), ('num_keypoints', counts))
        }
        # The evaluation keeps it in eight bits.
        | {'iscrowd': int(np.sum(~np.isin(crowds, (0, 1))))}
        | {'keypoints': len(annotations) - sum(lengths.values())},
        point_counts=counts,
        keypoint_lengths=lengths,
        keypoints=keypoints,
        broken_keypoints=broken_keypoints(annotations, keypoints),
    )


def segments(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the segments of panoptic annotations as annotations; others as they are.

    Their own ids, colours of one picture, repeat from image to image: they are numbered from 1.
    """
    if not any('segments_info' in a for a in annotations):
        return annotations
    found = (
        {**segment, 'image_id': a.get('image_id')}
        for a in annotations
        for segment in a.get('segments_info') or []
    )
    return [{**segment, 'id': number} for number, segment in enumerate(found, start=1)]


def repeated(ids: list[Any]) -> list[Any]:
    """Returns what is there more than once."""
    if len(set(ids)) == len(ids):
        return []
    return [value for value, count in Counter(ids).items() if count > 1]


def numbers(rows: list[Any], width: int) -> np.ndarray:
    """Returns rows of numbers as an array, (len(rows), width); NaN for those that are none."""
    try:
        flat = np.fromiter(chain.from_iterable(rows), float)
        # NumPy reads texts as numbers, too; the libraries do not.
        are_numbers = set(map(type, chain.from_iterable(rows))) <= {int, float}
        if are_numbers and len(flat) == width * len(rows) and set(map(len, rows)) <= {width}:
            return flat.reshape(-1, width)  # (N * width) -> (N, width)
    except (OverflowError, TypeError, ValueError):
        pass  # one by one, then
    table = np.full((len(rows), width), np.nan)
    for i, row in enumerate(rows):
        try:
            if any(isinstance(value, str) for value in row):
                continue
            found = np.array(row, float)
        except (OverflowError, TypeError, ValueError):
            continue
        if found.shape == (width,):  # lists in a list would be spread
            table[i] = found
    return table


def column(values: list[Any]) -> np.ndarray:
    """Returns numbers as an array, (len(values),); NaN for those that are none."""
    if set(map(type, values)) <= {int, float, type(None)}:
        try:
            return np.array(values, float)  # None becomes NaN
        except OverflowError:
            pass
    return numbers([[value] for value in values], 1)[:, 0]


def keypoint_columns(annotations: list[dict[str, Any]], lengths: Counter[int]) -> np.ndarray | None:
    """Returns the keypoints of annotations, (M, K, 3), where their lists have one length."""
    wanted = [length for length in lengths if length]
    if len(wanted) != 1 or wanted[0] % 3:
        return None
    blank = [np.nan] * wanted[0]
    table = numbers([a.get('keypoints') or blank for a in annotations], wanted[0])
    # (M, 3K) -> (M, K, 3)
    return table.reshape(len(annotations), -1, 3)


def broken_keypoints(annotations: list[dict[str, Any]], keypoints: np.ndarray | None) -> list[Any]:
    """Returns the ids of annotations that have keypoints, but not of finite numbers alone."""
    if keypoints is None:
        return []
    odd: np.ndarray = np.isnan(keypoints) | np.isinf(keypoints)
    rows = np.flatnonzero(odd.any((1, 2)))
    return [annotations[i].get('id') for i in rows if annotations[i].get('keypoints')]
