"""Results as the package supervision has them, which draws, tracks and counts."""

from typing import Any

import numpy as np

from scopevit.errors import InputError
from scopevit.inference.results import (
    ClassificationResult,
    DetectionResult,
    PoseResult,
    Result,
    SegmentationResult,
)


def convert(result: Result) -> Any:
    """Returns `Classifications`, `Detections` or, of a pose, `KeyPoints` of supervision.

    A segmentation becomes a detection of each class, with a mask.

    Raises:
        InputError: If supervision is not installed.
    """
    try:
        import supervision as sv
    except ModuleNotFoundError as error:
        raise InputError('to_supervision() needs a package: pip install supervision') from error
    if isinstance(result, ClassificationResult):
        return sv.Classifications(class_id=result.classes, confidence=result.scores)
    if isinstance(result, DetectionResult):
        return sv.Detections(
            xyxy=result.boxes,
            mask=result.masks,
            confidence=result.scores,
            class_id=result.classes,
            data={'class_name': class_names(result, result.classes)},
        )
    if isinstance(result, SegmentationResult):
        numbers = np.array(list(result.shares), int)
        masks = np.array([result.class_map == number for number in numbers])
        return sv.Detections(
            xyxy=sv.mask_to_xyxy(masks),
            mask=masks,
            class_id=numbers,
            data={'class_name': class_names(result, numbers)},
        )
    assert isinstance(result, PoseResult)
    return sv.KeyPoints(
        xy=result.keypoints.astype(np.float32),
        keypoint_confidence=result.keypoint_scores.astype(np.float32),
        detection_confidence=result.scores.astype(np.float32),
    )


def class_names(result: Result, numbers: np.ndarray) -> np.ndarray:
    """Returns the names of classes, as supervision's annotators look for them."""
    return np.array([result.labels.name(int(number)) for number in numbers], str)
