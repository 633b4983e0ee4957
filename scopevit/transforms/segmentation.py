"""mmseg's steps of the ADE20K recipes, registered with `scopevit/` before their names."""

import cv2
import mmcv
import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import formatting, transforms
from mmseg.registry import TRANSFORMS

from scopevit.transforms.pixels import RandomFlip, Results, is_plain, planes
from scopevit.transforms.tables import LEVELS

TRIES = 10  # of a crop, as many as mmseg's
TRANSFORMS.register_module(name='scopevit/RandomFlip', module=RandomFlip)


@TRANSFORMS.register_module(name='scopevit/RandomCrop')
class RandomCrop(transforms.RandomCrop):
    """Counts the labels of a crop in one pass; mmseg sorts them."""

    @cache_randomness
    def crop_bbox(self, results: Results) -> tuple[int, int, int, int]:
        """Draws a crop, again while one class has too much of it: top, bottom, left, right."""
        labels = results['gt_seg_map']
        if self.cat_max_ratio >= 1 or labels.dtype != np.uint8 or labels.ndim != 2:
            box: tuple[int, int, int, int] = super().crop_bbox(results)
            return box
        shape = results['img'].shape
        box = self.draw(shape)
        for _ in range(TRIES):
            if self.is_varied(self.crop(labels, box)):
                break
            box = self.draw(shape)
        return box

    def draw(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Draws a crop of an image: top, bottom, left, right."""
        height, width = self.crop_size
        top = np.random.randint(0, max(shape[0] - height, 0) + 1)
        left = np.random.randint(0, max(shape[1] - width, 0) + 1)
        return top, top + height, left, left + width

    def is_varied(self, labels: np.ndarray) -> bool:
        """Whether a crop has several classes of which none has too much."""
        # whole numbers, which float32 holds up to 16 million pixels
        counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel().astype(np.int64)
        if 0 <= self.ignore_index < len(counts):
            counts[self.ignore_index] = 0
        return bool((counts > 0).sum() > 1 and counts.max() / counts.sum() < self.cat_max_ratio)


@TRANSFORMS.register_module(name='scopevit/PhotoMetricDistortion')
class PhotoMetricDistortion(transforms.PhotoMetricDistortion):
    """Looks levels up in tables of what mmseg makes of them."""

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """Multiplies and adds; (H, W, C) or (N,)."""
        if img.ndim != 3 or img.dtype != np.uint8:
            converted: np.ndarray = super().convert(img, alpha, beta)
            return converted
        return cv2.LUT(img, super().convert(LEVELS, alpha, beta))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        """Changes the saturation, or not."""
        if not is_plain(img):
            changed: np.ndarray = super().saturation(img)
            return changed
        if not np.random.randint(2):
            return img
        factor = np.random.uniform(self.saturation_lower, self.saturation_upper)
        return map_hsv(img, 1, self.convert(LEVELS, alpha=factor))

    def hue(self, img: np.ndarray) -> np.ndarray:
        """Turns the hue, or not."""
        if not is_plain(img):
            changed: np.ndarray = super().hue(img)
            return changed
        if not np.random.randint(2):
            return img
        turn = np.random.randint(-self.hue_delta, self.hue_delta)
        return map_hsv(img, 0, ((LEVELS.astype(int) + turn) % 180).astype(np.uint8))


def map_hsv(image: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    """Looks one of hue, saturation and value up in a table, (256,); the image is BGR."""
    tables = np.stack([LEVELS] * 3, axis=-1)
    tables[:, channel] = table
    mapped: np.ndarray = mmcv.hsv2bgr(cv2.LUT(mmcv.bgr2hsv(image), tables[:, None]))
    return mapped


@TRANSFORMS.register_module(name='scopevit/PackSegInputs')
class PackSegInputs(formatting.PackSegInputs):
    """Packs images channel by channel, in one copy."""

    def transform(self, results: Results) -> Results:
        """Returns inputs and data samples."""
        image = results.get('img')
        if not is_plain(image):
            packed: Results = super().transform(results)
            return packed
        others = {key: value for key, value in results.items() if key != 'img'}
        return {'inputs': planes(image), **super().transform(others)}
