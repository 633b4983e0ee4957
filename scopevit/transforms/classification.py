"""mmpretrain's steps of the ImageNet recipe, registered with `scopevit/` before their names."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmpretrain.datasets.transforms import auto_augment, formatting, processing
from mmpretrain.registry import TRANSFORMS
from torch.nn import functional as F

from scopevit.transforms import shifts, tables
from scopevit.transforms.pixels import RandomFlip, Results, is_plain, planes


@TRANSFORMS.register_module(name='scopevit/RandomResizedCrop')
class RandomResizedCrop(processing.RandomResizedCrop):
    """Resizes by torch, whose antialiasing is Pillow's.

    Pillow copies an image into a format of its own and back, with a fourth channel.

    Raises:
        ValueError: Unless it is to resize as Pillow does, bicubic.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (self.backend, self.interpolation) != ('pillow', 'bicubic'):
            raise ValueError(
                "scopevit/RandomResizedCrop takes backend='pillow' and interpolation='bicubic', "
                f'not {self.backend!r} and {self.interpolation!r}'
            )

    def transform(self, results: Results) -> Results:
        """Crops and resizes the image."""
        image = results['img']
        if not is_plain(image):
            return super().transform(results)
        top, left, height, width = self.rand_crop_params(image)
        crop = np.ascontiguousarray(image[top : top + height, left : left + width])
        # (H, W, C) -> (1, C, H, W) in the layout that torch's kernel of 8 bits takes as it is
        resized = F.interpolate(
            torch.from_numpy(crop).unsqueeze(0).permute(0, 3, 1, 2),
            tuple(self.scale),
            mode=self.interpolation,
            align_corners=False,
            antialias=True,
        )
        results['img'] = resized.permute(0, 2, 3, 1)[0].numpy()
        results['img_shape'] = results['img'].shape
        return results


TRANSFORMS.register_module(name='scopevit/RandomFlip', module=RandomFlip)


@TRANSFORMS.register_module(name='scopevit/RandAugment')
class RandAugment(auto_augment.RandAugment):
    """Takes the operations of this module where it has them."""

    def __init__(self, policies: str | Sequence[dict[str, Any]], *args: Any, **kwargs: Any) -> None:
        if isinstance(policies, str) and policies not in auto_augment.RANDAUG_POLICIES:
            known = ', '.join(auto_augment.RANDAUG_POLICIES)
            raise ValueError(f'policies of scopevit/RandAugment are {known}, not {policies!r}')
        given = auto_augment.RANDAUG_POLICIES[policies] if isinstance(policies, str) else policies
        ours = [{**step, 'type': OPERATIONS.get(step['type'], step['type'])} for step in given]
        super().__init__(ours, *args, **kwargs)


class _ByLevel:
    """An operation of mmpretrain that changes each pixel by its own level alone."""

    def transform(self, results: Results) -> Results:
        if not is_plain(results['img']):
            return super().transform(results)  # type: ignore[misc]
        results['img'] = tables.map_levels(super().transform, results['img'])  # type: ignore[misc]
        return results


class Brightness(_ByLevel, auto_augment.Brightness):
    pass


class Posterize(_ByLevel, auto_augment.Posterize):
    pass


class Solarize(_ByLevel, auto_augment.Solarize):
    pass


class SolarizeAdd(_ByLevel, auto_augment.SolarizeAdd):
    pass


class _ByTables:
    """An operation of mmpretrain that looks levels up in tables, which depend on the image."""

    def transform(self, results: Results) -> Results:
        if not is_plain(results['img']):
            return super().transform(results)  # type: ignore[misc]
        if not self.random_disable():  # type: ignore[attr-defined]
            image = results['img']
            results['img'] = cv2.LUT(image, self.make_tables(image))
        return results

    def make_tables(self, image: np.ndarray) -> np.ndarray:
        """Returns what becomes of each level: (256,), or (256, 1, 3) by channel."""
        raise NotImplementedError


class AutoContrast(_ByTables, auto_augment.AutoContrast):
    def make_tables(self, image: np.ndarray) -> np.ndarray:
        return tables.auto_contrast_tables(image)


class Equalize(_ByTables, auto_augment.Equalize):
    def make_tables(self, image: np.ndarray) -> np.ndarray:
        return tables.equalize_tables(image)


def draw_magnitude(operation: Any) -> float:
    """Returns a magnitude of an operation, or its fixed one, with either sign."""
    fixed = operation.magnitude
    return operation.random_negative(operation.random_magnitude() if fixed is None else fixed)


class Contrast(_ByTables, auto_augment.Contrast):
    def make_tables(self, image: np.ndarray) -> np.ndarray:
        return tables.contrast_table(image, 1 + draw_magnitude(self))


def border_color(operation: Any) -> tuple[int, ...]:
    """Returns what an operation fills the border with, one level a channel."""
    fill = operation.pad_val
    return (fill,) * 3 if isinstance(fill, int) else fill


class Shear(auto_augment.Shear):
    def transform(self, results: Results) -> Results:
        if self.interpolation != 'bicubic' or not is_plain(results['img']):
            return super().transform(results)
        if not self.random_disable():
            axis = 1 if self.direction == 'horizontal' else 0
            magnitude = draw_magnitude(self)
            results['img'] = shifts.shear(results['img'], magnitude, axis, border_color(self))
        return results


class Translate(auto_augment.Translate):
    def transform(self, results: Results) -> Results:
        if self.interpolation != 'bicubic' or not is_plain(results['img']):
            return super().transform(results)
        if not self.random_disable():
            image = results['img']
            axis = 1 if self.direction == 'horizontal' else 0
            offset = draw_magnitude(self) * image.shape[axis]
            results['img'] = shifts.translate(image, offset, axis, border_color(self))
        return results


OPERATIONS = {}
for operation in (
    AutoContrast, Brightness, Contrast, Equalize, Posterize, Shear, Solarize, SolarizeAdd, Translate
):  # fmt: skip
    OPERATIONS[operation.__name__] = f'scopevit/{operation.__name__}'
    TRANSFORMS.register_module(name=OPERATIONS[operation.__name__], module=operation)


@TRANSFORMS.register_module(name='scopevit/RandomErasing')
class RandomErasing(processing.RandomErasing):
    """Draws what it fills an area with by OpenCV, in an eighth of the time of NumPy."""

    def _fill_pixels(self, img: np.ndarray, top: int, left: int, h: int, w: int) -> np.ndarray:
        if self.mode == 'const' or self.fill_std is None:
            return super()._fill_pixels(img, top, left, h, w)
        # OpenCV's generator, which nobody else seeds, goes on from NumPy's
        cv2.setRNGSeed(np.random.randint(2**31))
        patch = np.empty((h, w, 3), np.uint8)
        # It rounds to the nearest whole number, and the library towards 0.
        cv2.randn(patch, np.array(self.fill_color) - 0.5, np.array(self.fill_std))
        img[top : top + h, left : left + w] = patch
        return img


@TRANSFORMS.register_module(name='scopevit/PackInputs')
class PackInputs(formatting.PackInputs):
    """Packs images channel by channel, in one copy."""

    @staticmethod
    def format_input(input_: Any) -> Any:
        if is_plain(input_):
            return planes(input_)
        return formatting.PackInputs.format_input(input_)
