"""Annotated objects, as COCO has them: what is checked of every format."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from scopevit.boxes import are_corners, reach_far_out, shown
from scopevit.errors import InputError
from scopevit.own_data.samples import OwnData, OwnImage

FAR = 10  # times the image's longer side; no polygon reaches there


def check_objects(data: OwnData) -> None:
    """Cuts boxes at their image's border and leaves out those without area; notes say how many.

    Raises:
        InputError: If there are no objects, a box lies outside its image, or boxes look like xyxy.
    """
    check_not_xyxy(data)
    cut, empty = 0, 0
    for image in data.images:
        kept = []
        for found in image.objects:
            box = clip_box(found['bbox'], image.size)
            cut += max(abs(a - b) for a, b in zip(box, found['bbox'])) > 1
            if min(found['bbox'][2:]) <= 0:
                empty += 1
            elif min(box[2:]) <= 0:
                raise InputError(
                    f'{data.root / image.file}: box {shown(found["bbox"])} (x, y, width, height) '
                    f'lies outside the image of {image.size[0]}x{image.size[1]} pixels'
                )
            else:
                kept.append(dict(found, bbox=box))
        image.objects = kept
    if cut:
        data.notes.append(f'{cut} boxes reach out of their images and are cut at the border')
    if empty:
        data.notes.append(f'{empty} boxes without width or height are left out')
    if not any(image.objects for image in data.images):
        raise InputError(f'{data.root}: no image has an annotated object')


def check_not_xyxy(data: OwnData) -> None:
    """Looks for corners in the place of width and height.

    Raises:
        InputError: If boxes reach far out of their images, and all would be boxes as corners.
    """
    found = [(image, item['bbox']) for image in data.images for item in image.objects]
    boxes = np.array([box for _, box in found]).reshape(-1, 4)
    sizes = np.array([image.size for image, _ in found]).reshape(-1, 2)
    if are_corners(boxes, sizes):
        far = reach_far_out(boxes, sizes)
        image, box = found[int(far.argmax())]
        raise InputError(
            f'{data.root / image.file}: box {shown(box)} reaches out of the image of '
            f'{image.size[0]}x{image.size[1]} pixels; it looks like x1, y1, x2, y2, where COCO has '
            f'x, y, width, height ({far.sum()} such boxes)'
        )


def clip_box(box: list[float], size: tuple[int, int]) -> list[float]:
    """Returns a box, xywh, cut at the borders of an image."""
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[0] + box[2], size[0]), min(box[1] + box[3], size[1])
    return [x1, y1, x2 - x1, y2 - y1]


def check_validated(data: OwnData) -> None:
    """Raises an InputError unless there is an object to train on and one to validate on."""
    for split, verb in (('train', 'train'), ('val', 'validate')):
        if not any(data.counts(split)):
            raise InputError(f'{data.root}: no image to {verb} on has an annotated object')


def has_masks(data: OwnData) -> bool:
    """Returns whether every object that counts has a mask; some that have none are noted."""
    objects = [o for image in data.images for o in image.objects if not o.get('iscrowd')]
    count = sum(bool(o.get('segmentation')) for o in objects)
    if 0 < count < len(objects):
        data.notes.append(f'{len(objects) - count} of {len(objects)} objects have no mask')
    return count == len(objects) > 0


def polygon_box(polygons: list[list[float]]) -> list[float]:
    """Returns the box, xywh, around polygons, each x, y, x, y, ..."""
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons])
    low, high = points.min(0), points.max(0)
    return [float(v) for v in (*low, *(high - low))]


def check_near(polygons: list[list[float]], size: tuple[int, int], where: str) -> None:
    """Raises an InputError where polygons, each x, y, x, y, ..., reach far out of their image.

    pycocotools takes memory by their extent, and ends the process where there is not enough.
    """
    far = [value for polygon in polygons for value in polygon if abs(value) > FAR * max(size)]
    if far:
        raise InputError(
            f'{where}: a polygon has a point at {far[0]:g}, its image has '
            f'{size[0]}x{size[1]} pixels'
        )


def to_rle(segmentation: Any, size: tuple[int, int]) -> Any:
    """Returns the run-length code of polygons or of another such code."""
    width, height = size
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation['counts'], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def object_area(found: dict[str, Any], size: tuple[int, int]) -> float:
    """Returns the area of an object: as annotated, of its mask or else of its box."""
    if found.get('area') is not None:
        return float(found['area'])
    if found.get('segmentation'):
        return float(coco_mask.area(to_rle(found['segmentation'], size)))
    return float(found['bbox'][2] * found['bbox'][3])


def to_coco(data: OwnData, split: str, with_masks: bool) -> dict[str, Any]:
    """Returns a split as COCO has it, its categories in the order of the classes, from 1 on."""
    images = list(enumerate(data.part(split), 1))
    categories: list[dict[str, Any]] = [
        dict(id=i, name=name) for i, name in enumerate(data.classes, 1)
    ]
    if data.skeleton:
        bones = [[a + 1, b + 1] for a, b in data.skeleton.links]
        for category in categories:
            category.update(keypoints=data.skeleton.names, skeleton=bones)
    return dict(
        images=[
            dict(id=i, file_name=image.file, width=image.size[0], height=image.size[1])
            for i, image in images
        ],
        annotations=list(number(annotations(images, with_masks))),
        categories=categories,
    )


def number(items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields annotations with their ids; COCO's evaluation takes an id of 0 for no match."""
    for i, item in enumerate(items, 1):
        yield dict(id=i, **item)


def annotations(images: list[tuple[int, OwnImage]], with_masks: bool) -> Iterator[dict[str, Any]]:
    """Yields the annotations of images."""
    for i, image in images:
        for found in image.objects:
            item = dict(
                image_id=i,
                category_id=found['category'] + 1,
                bbox=[round(v, 3) for v in found['bbox']],
                area=round(object_area(found, image.size), 3),
                iscrowd=int(found.get('iscrowd') or 0),
            )
            if with_masks and found.get('segmentation'):
                item['segmentation'] = found['segmentation']
            if 'keypoints' in found:
                item['keypoints'] = [round(v, 3) for v in found['keypoints']]
                item['num_keypoints'] = sum(v > 0 for v in found['keypoints'][2::3])
            yield item


def check_finite(values: Any, count: int | None, where: str, what: str) -> list[float]:
    """Returns a list of numbers as floats.

    Args:
        values: What is to be such a list.
        count: How many there must be, where that is known.
        where: File and annotation, for the message.
        what: Key of the annotation, for the message.

    Raises:
        InputError: If it is none, or of another length.
    """
    numbers = isinstance(values, (list, tuple)) and all(map(is_number, values))
    if not numbers or (count is not None and len(values) != count):
        raise InputError(f'{where}: {what} must be {count or "some"} numbers, not {values!r:.60}')
    return [float(v) for v in values]


def is_number(value: Any) -> bool:
    """Returns whether a value is a number that a float can be."""
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # whole numbers have no end in JSON
        return False
