"""mmdet's steps of the COCO recipes, registered with `scopevit/` before their names."""

from typing import Any, TypeGuard

import cv2
import mmcv
import numpy as np
from mmdet.datasets.transforms import formatting, loading, transforms
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks

from scopevit.transforms.pixels import FLIP_CODES, FastFlip, Results, is_plain, planes


def has_masks(masks: Any) -> TypeGuard[BitmapMasks]:
    """Whether there are masks, as pixels of 8 bits."""
    return type(masks) is BitmapMasks and len(masks) > 0 and masks.masks.dtype == np.uint8


@TRANSFORMS.register_module(name='scopevit/LoadAnnotations')
class LoadAnnotations(loading.LoadAnnotations):
    """Turns the masks of pycocotools, whose columns lie in a row, by OpenCV."""

    def _poly2mask(self, mask_ann: Any, img_h: int, img_w: int) -> np.ndarray:
        # (H, W), Fortran order -> (W, H) -> (H, W), C order
        return cv2.transpose(super()._poly2mask(mask_ann, img_h, img_w).T)


@TRANSFORMS.register_module(name='scopevit/Resize')
class Resize(transforms.Resize):
    """Resizes of each mask the part that has an object."""

    def _resize_masks(self, results: Results) -> None:
        masks = results.get('gt_masks')
        if not has_masks(masks) or not self.keep_ratio:
            super()._resize_masks(results)
            return
        old = masks.width, masks.height
        new = mmcv.rescale_size(old, results['scale'])
        columns, rows = (source_places(*sizes) for sizes in zip(old, new, strict=True))
        resized = np.zeros((len(masks), new[1], new[0]), np.uint8)
        for mask, target in zip(masks.masks, resized, strict=True):
            left, top, width, height = cv2.boundingRect(mask)
            # where the part comes to lie
            x = slice(*np.searchsorted(columns, [left, left + width]))
            y = slice(*np.searchsorted(rows, [top, top + height]))
            part = mask[top : top + height].take(columns[x], axis=1)
            target[y, x] = part[rows[y] - top]
        results['gt_masks'] = BitmapMasks(resized, new[1], new[0])


def source_places(old: int, new: int) -> np.ndarray:
    """Returns which of some places in a row OpenCV's nearest resizing takes for each new one."""
    places = np.arange(old, dtype=np.float32)[None]
    return cv2.resize(places, (new, 1), interpolation=cv2.INTER_NEAREST)[0].astype(np.intp)


@TRANSFORMS.register_module(name='scopevit/RandomFlip')
class RandomFlip(FastFlip, transforms.RandomFlip):
    """Flips of each mask the part that has an object."""

    def _flip(self, results: Results) -> None:
        masks = results.get('gt_masks')
        if not has_masks(masks):
            super()._flip(results)
            return
        results['gt_masks'] = None
        super()._flip(results)
        code = FLIP_CODES[results['flip_direction']]
        flipped = np.zeros(masks.masks.shape, np.uint8)
        for mask, target in zip(masks.masks, flipped, strict=True):
            left, top, width, height = cv2.boundingRect(mask)
            if width:
                x = masks.width - left - width if code else left
                y = masks.height - top - height if code < 1 else top
                part = mask[top : top + height, left : left + width]
                target[y : y + height, x : x + width] = cv2.flip(part, code)
        results['gt_masks'] = BitmapMasks(flipped, masks.height, masks.width)


@TRANSFORMS.register_module(name='scopevit/PackDetInputs')
class PackDetInputs(formatting.PackDetInputs):
    """Packs images channel by channel in one copy, and masks without any where all count."""

    def transform(self, results: Results) -> Results:
        """Returns inputs and data samples."""
        results = dict(results)
        first: Results = {}
        if is_plain(results.get('img')):
            first['inputs'] = planes(results.pop('img'))
        masks, ignored = results.get('gt_masks'), results.get('gt_ignore_flags')
        if not has_masks(masks) or ignored is None or ignored.any():
            return first | super().transform(results)
        del results['gt_masks']
        packed: Results = first | super().transform(results)
        packed['data_samples'].gt_instances.masks = masks
        packed['data_samples'].ignored_instances.masks = masks[[]]
        return packed
