"""Prediction: images of any kind in, results of one small class a task out."""

from scopevit.inference.predictor import Predictor
from scopevit.inference.results import (
    ClassificationResult,
    DetectionResult,
    Labels,
    PoseResult,
    Result,
    SegmentationResult,
)
from scopevit.inference.sources import open_sources

__all__ = [
    'ClassificationResult',
    'DetectionResult',
    'Labels',
    'PoseResult',
    'Predictor',
    'Result',
    'SegmentationResult',
    'open_sources',
]
