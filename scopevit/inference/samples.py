"""From what the libraries' networks predict to results."""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from pycocotools import mask as coco_mask

from scopevit.errors import InputError
from scopevit.inference.results import (
    ClassificationResult,
    DetectionResult,
    Labels,
    PoseResult,
    Result,
    SegmentationResult,
)


def read_labels(metainfo: Mapping[str, Any], source: str) -> Labels:
    """Returns what the numbers in results mean, from a data set's description.

    Args:
        metainfo: The description.
        source: The checkpoint that has it, for messages.

    Raises:
        InputError: If a part of it is something else than the libraries have there.
    """

    def read(key: str, convert: Callable[[Any], tuple[Any, ...]], form: str) -> tuple[Any, ...]:
        try:
            return convert(metainfo.get(key))
        except (KeyError, TypeError, ValueError) as error:
            value = reprlib.repr(metainfo[key])
            message = f'{source}: {key} of its data set must be {form}, not {value}'
            raise InputError(message) from error

    return Labels(
        read('classes', class_names, 'a list of names'),
        read('palette', colors, 'a list of colours'),
        read('keypoint_id2name', numbered_names, 'a dict of names by number'),
        read('skeleton_links', links, 'a list of pairs of numbers'),
        read('keypoint_colors', colors, 'a list of colours'),
    )


def class_names(classes: Any) -> tuple[str, ...]:
    """Returns the names of classes, also of such that have other properties beside a name."""
    if isinstance(classes, str):
        raise ValueError('one name, which would be cut into letters')
    return tuple(str(one['name'] if isinstance(one, Mapping) else one) for one in classes or ())


def numbered_names(names: Any) -> tuple[str, ...]:
    """Returns names in the order of their numbers."""
    return tuple(str(names[number]) for number in sorted(names or {}))


def links(pairs: Any) -> tuple[tuple[int, int], ...]:
    """Returns which keypoints are connected."""
    return tuple((int(a), int(b)) for a, b in pairs or ())


def colors(palette: Any) -> tuple[tuple[int, int, int], ...]:
    """Returns a palette as tuples; none for what is no list of colours, such as 'random'."""
    if palette is None or isinstance(palette, str):
        return ()
    return tuple((int(r), int(g), int(b)) for r, g, b in palette)


class Converter:
    """Makes results of the samples of a library.

    Args:
        library: Its name.
        labels: What the numbers mean.
        top_k: Most classes of a `ClassificationResult`.
        min_score: Least score of objects.
    """

    def __init__(self, library: str, labels: Labels, top_k: int, min_score: float) -> None:
        self._convert = getattr(self, f'_{library}')
        self.labels, self.top_k, self.min_score = labels, top_k, min_score

    def __call__(self, samples: list[BaseDataElement], **image: Any) -> Result:
        """Returns the result of an image, whose attributes `image` has.

        Raises:
            InputError: If the model predicts something else.
        """
        try:
            return self._convert(samples, labels=self.labels, **image)
        except AttributeError as error:
            raise InputError(f'the model predicts nothing that is known here: {error}') from error

    def _mmpretrain(self, samples: list[BaseDataElement], **image: Any) -> Result:
        scores = samples[0].pred_score.float().cpu().numpy()  # (classes,)
        order = np.argsort(-scores, kind='stable')[: self.top_k]
        return ClassificationResult(classes=order, scores=scores[order], **image)

    def _mmdet(self, samples: list[BaseDataElement], **image: Any) -> Result:
        found = samples[0].pred_instances
        found = found[found.scores >= self.min_score].cpu()
        rles = None
        if 'masks' in found:
            # (N, H, W) -> (H, W, N), a mask after the other in memory
            masks = np.asarray(found.masks, np.uint8).transpose(1, 2, 0)
            rles = tuple(coco_mask.encode(np.asfortranarray(masks)))
        boxes = getattr(found.bboxes, 'tensor', found.bboxes).float().numpy()
        classes, scores = found.labels.numpy(), found.scores.float().numpy()
        return DetectionResult(boxes=boxes, scores=scores, classes=classes, rles=rles, **image)

    def _mmseg(self, samples: list[BaseDataElement], **image: Any) -> Result:
        class_map = samples[0].pred_sem_seg.data[0].cpu().numpy()  # (1, H, W) -> (H, W)
        small = np.uint8 if class_map.max(initial=0) < 256 else np.int32
        return SegmentationResult(class_map=class_map.astype(small), **image)

    def _mmpose(self, samples: list[BaseDataElement], **image: Any) -> Result:
        found = [sample.pred_instances for sample in samples]
        count = len(self.labels.keypoints)
        if found and found[0].keypoints.shape[1] != count:
            raise InputError(
                f'the model predicts {found[0].keypoints.shape[1]} keypoints, and keypoint_id2name '
                f'of its data set has {count}'
            )
        shapes = {
            'keypoints': (-1, count, 2),
            'keypoint_scores': (-1, count),
            'bboxes': (-1, 4),
            'bbox_scores': (-1,),
        }
        if found and 'bboxes' not in found[0]:  # bottom-up
            del shapes['bboxes'], shapes['bbox_scores']
        keypoints, scores, *boxes = (
            np.concatenate([np.zeros((0, *shape[1:])), *(one[name] for one in found)]).astype(float)
            for name, shape in shapes.items()
        )
        if not boxes:
            boxes = [np.hstack([keypoints.min(1), keypoints.max(1)]), np.ones(len(keypoints))]
        return PoseResult(
            keypoints=keypoints,
            keypoint_scores=scores,
            boxes=boxes[0],
            box_scores=boxes[1],
            **image,
        )
