"""Print what each demo task scores without looking at an image.

    python tools/demo/baselines.py                # a Markdown table, about 10 seconds

A trained demo model has to beat these. Every value carries its metric's name and scale in the
library that scores the task: percent for `accuracy/top1` and `mIoU`, a fraction for the rest.
"""

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# Importing scopevit comes before the libraries: it adapts them.
from scopevit.cli import run_tool
from scopevit.errors import InputError

from mmpretrain.evaluation import Accuracy  # isort: skip
from mmseg.evaluation import IoUMetric  # isort: skip

SEMANTIC_CLASSES = 4  # background and three types of nuclei
SPACINGS = (0.5, 0.75, 1.0, 1.5, 2.0)  # between the boxes' centres, in boxes
MAX_DETECTIONS = 1000  # an image and class, as mmdet's CocoMetric allows
KEYPOINT_DETECTIONS = 20  # COCO's own limit


def classification_baseline(data_root: Path | str) -> dict[str, float]:
    """Always say the most frequent class of the training set.

    Args:
        data_root: Folder of the four idx files (`data/demo/fashion_mnist`).

    Returns:
        `accuracy/top1` in percent; ties go to the lowest class index.
    """
    root = Path(data_root)
    train, test = (
        np.frombuffer(_existing(root / f'{split}-labels-idx1-ubyte').read_bytes(), np.uint8, -1, 8)
        for split in ('train', 't10k')
    )  # 8 bytes of header: magic number and length
    guess = np.full(len(test), np.bincount(train).argmax())
    return {'accuracy/top1': float(Accuracy.calculate(guess, test.copy()))}


def segmentation_baseline(data_root: Path | str) -> dict[str, float]:
    """Call every pixel background: the other three classes' IoU is 0.

    Args:
        data_root: Folder with `masks/val` (`data/demo/nuclei`).

    Returns:
        `mIoU` in percent, over the pixels of all masks together and the mean of four classes.
    """
    folder = _existing(Path(data_root) / 'masks' / 'val')
    areas = []
    for path in sorted(folder.glob('*.png')):
        label = torch.from_numpy(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        areas.append(
            IoUMetric.intersect_and_union(torch.zeros_like(label), label, SEMANTIC_CLASSES, 255)
        )
    metrics = IoUMetric.total_area_to_metrics(*map(sum, zip(*areas, strict=True)))
    return {'mIoU': float(np.mean(metrics['IoU'])) * 100}


def detection_baseline(data_root: Path | str) -> dict[str, float]:
    """Put boxes of the training set's mean size on a grid, all classes at each place.

    Each class scores as high as it is frequent in the training set. The best of several spacings
    counts, and for masks the better of a filled box and its ellipse: an upper bound of what
    placing boxes blindly gives.

    Args:
        data_root: Folder with `annotations/instances_{train,val}.json` (`data/demo/nuclei`).

    Returns:
        `coco/bbox_mAP_50` and `coco/segm_mAP_50`, fractions.
    """
    train = _load(Path(data_root) / 'annotations' / 'instances_train.json')
    val = _load(Path(data_root) / 'annotations' / 'instances_val.json')
    box = np.mean([annotation['bbox'][2:] for annotation in train['annotations']], axis=0)
    classes = [annotation['category_id'] for annotation in train['annotations']]
    frequency = {c['id']: classes.count(c['id']) / len(classes) for c in train['categories']}

    def best(iou_type: str, shapes: Iterable[Callable[..., dict[str, Any]] | None]) -> float:
        return max(
            _average_precision(val, _grid_results(val, box, spacing, frequency, shape), iou_type)
            for spacing, shape in product(SPACINGS, shapes)
        )

    return {
        'coco/bbox_mAP_50': best('bbox', [None]),
        'coco/segm_mAP_50': best('segm', [box_mask, ellipse_mask]),
    }


def pose_baseline(data_root: Path | str) -> dict[str, float]:
    """Put the mean pose of the training set into each ground-truth box.

    Args:
        data_root: Folder with `annotations/person_keypoints_{train,val}.json` (`data/demo/pose`).

    Returns:
        `coco/AP`, a fraction: the mean over ten thresholds of object keypoint similarity.
    """
    train = _load(Path(data_root) / 'annotations' / 'person_keypoints_train.json')
    val = _load(Path(data_root) / 'annotations' / 'person_keypoints_val.json')
    pose = mean_pose(train['annotations'])
    return {'coco/AP': _pose_precision(val, [pose] * len(val['annotations']))}


def pose_memory_baseline(data_root: Path | str) -> dict[str, float]:
    """Put a remembered pose into each ground-truth box: that of the same camera's nearest box.

    The cameras stand still and the frames are close in time, so memory alone goes far; a model
    that reads the image has to beat this too. Nearest is the training box of the highest IoU;
    its unlabelled keypoints come from the mean pose.

    Args:
        data_root: As for `pose_baseline`; a file name up to its last `_` names the camera.

    Returns:
        `coco/AP`, a fraction.
    """
    train = _load(Path(data_root) / 'annotations' / 'person_keypoints_train.json')
    val = _load(Path(data_root) / 'annotations' / 'person_keypoints_val.json')
    pose = mean_pose(train['annotations'])
    memory = {}  # camera -> its training people
    for annotation, camera in zip(train['annotations'], _cameras(train), strict=True):
        memory.setdefault(camera, []).append(annotation)
    poses = []
    for annotation, camera in zip(val['annotations'], _cameras(val), strict=True):
        people = memory[camera]
        boxes = [person['bbox'] for person in people]
        overlap = mask_utils.iou([annotation['bbox']], boxes, [0] * len(boxes))[0]
        nearest = people[overlap.argmax()]
        labelled = np.reshape(nearest['keypoints'], (-1, 3))[:, 2:] > 0
        poses.append(np.where(labelled, mean_pose([nearest]), pose))
    return {'coco/AP': _pose_precision(val, poses)}


def mean_pose(annotations: Iterable[dict[str, Any]]) -> np.ndarray:
    """Return the mean place of each labelled keypoint in its box, (K, 2), (0, 0) to (1, 1).

    A keypoint that is labelled nowhere goes to the centre.
    """
    places = []
    for annotation in annotations:
        box = np.array(annotation['bbox'])
        keypoints = np.reshape(annotation['keypoints'], (-1, 3))
        place = (keypoints[:, :2] - box[:2]) / box[2:]
        places.append(np.where(keypoints[:, 2:] > 0, place, np.nan))
    stacked = np.array(places)  # (people, K, 2)
    labelled = ~np.isnan(stacked)
    total = np.where(labelled, stacked, 0).sum(axis=0)
    count = labelled.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), 0.5)


def grid_boxes(size: tuple[int, int], box: tuple[float, float], spacing: float) -> np.ndarray:
    """Spread boxes evenly over an image.

    Args:
        size: (width, height) of the image in pixels.
        box: (width, height) of each box in pixels.
        spacing: Between the centres, in boxes; rounded so that a whole number fits.

    Returns:
        (N, 4) as (x, y, width, height) in pixels, row by row, clipped to the image.
    """
    centres = []
    for length, side in zip(size, box, strict=True):
        count = max(round(length / (side * spacing)), 1)
        centres.append((np.arange(count) + 0.5) * length / count)
    grid = np.stack(np.meshgrid(*centres), axis=-1).reshape(-1, 2)
    low = np.maximum(grid - np.array(box) / 2, 0)
    high = np.minimum(grid + np.array(box) / 2, size)
    return np.concatenate([low, high - low], axis=1)


def box_mask(box: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Return the run-length code of a filled box (x, y, width, height), image (width, height)."""
    x, y, width, height = box
    xs, ys = np.arange(size[0]) + 0.5, np.arange(size[1])[:, None] + 0.5  # centres of the pixels
    mask = (xs > x) & (xs < x + width) & (ys > y) & (ys < y + height)
    return mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))


def ellipse_mask(box: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Return the run-length code of the ellipse in a box (x, y, width, height)."""
    x, y, width, height = box
    xs, ys = np.arange(size[0]) + 0.5, np.arange(size[1])[:, None] + 0.5  # centres of the pixels
    dx, dy = (2 * (xs - x) / width - 1), (2 * (ys - y) / height - 1)
    return mask_utils.encode(np.asfortranarray((dx**2 + dy**2 <= 1).astype(np.uint8)))


def _grid_results(
    val: dict[str, Any],
    box: np.ndarray,
    spacing: float,
    frequency: dict[int, float],
    shape: Callable[..., dict[str, Any]] | None,
) -> list[dict[str, Any]]:
    """Return COCO results: the same grid on every image, as boxes, or as masks of one shape."""
    results = []
    places = {}  # (width, height) of an image -> what lies on it
    for image in val['images']:
        size = image['width'], image['height']
        if size not in places:
            boxes = grid_boxes(size, tuple(box), spacing)
            places[size] = [
                {'segmentation': shape(b, size)} if shape else {'bbox': b.tolist()} for b in boxes
            ]
        results += [
            {'image_id': image['id'], 'category_id': category, 'score': score, **place}
            for place in places[size]
            for category, score in frequency.items()
        ]
    return results


def _cameras(coco: dict[str, Any]) -> list[str]:
    """Return the camera of each annotation."""
    names = {image['id']: image['file_name'] for image in coco['images']}
    return [names[a['image_id']].rpartition('_')[0] for a in coco['annotations']]


def _pose_precision(val: dict[str, Any], poses: list[np.ndarray]) -> float:
    """Return the AP of one pose, (K, 2) in its box, per annotation."""
    results = []
    for annotation, pose in zip(val['annotations'], poses, strict=True):
        box = np.array(annotation['bbox'])
        keypoints = np.column_stack([box[:2] + pose * box[2:], np.ones(len(pose))])
        results.append(
            {
                'image_id': annotation['image_id'],
                'category_id': annotation['category_id'],
                'keypoints': keypoints.ravel().tolist(),
                'score': 1.0,
            }
        )
    return _average_precision(val, results, 'keypoints')


def _average_precision(
    truth: dict[str, Any], results: list[dict[str, Any]], iou_type: str
) -> float:
    """Return COCO's AP over all areas: at IoU 0.5 for boxes and masks, over OKS for keypoints."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), iou_type)
        limit = KEYPOINT_DETECTIONS
        if iou_type != 'keypoints':
            limit = MAX_DETECTIONS
            evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.maxDets = [limit]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ['all']
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval['precision']  # -1 where a class has no instance
    return float(precision[precision > -1].mean())


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InputError(f'{path} is missing; tools/dataset_converters/make_demo_data.py makes it')
    return path


def _load(path: Path) -> dict[str, Any]:
    return json.loads(_existing(path).read_text())


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', type=Path, default=Path('data/demo'))
    root = parser.parse_args(argv).data_root
    tasks = (
        ('classification', 'most frequent class', classification_baseline, 'fashion_mnist'),
        ('segmentation', 'all background', segmentation_baseline, 'nuclei'),
        ('detection', 'best grid of mean boxes', detection_baseline, 'nuclei'),
        ('pose', 'mean pose in the true box', pose_baseline, 'pose'),
        ('pose', "same camera's nearest pose in the true box", pose_memory_baseline, 'pose'),
    )
    lines = ['| task | baseline | metric | value |', '|---|---|---|---|']
    for task, name, function, folder in tasks:
        for metric, value in function(root / folder).items():
            lines.append(f'| {task} | {name} | `{metric}` | {value:.4g} |')
    print('\n'.join(lines))


if __name__ == '__main__':
    sys.exit(run_tool(main))
