"""Loaded as `xtcocotools.coco`."""

from pycocotools.coco import COCO

__all__ = ['COCO']
