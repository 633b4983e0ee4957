"""Let mmcv turn hues backwards with a numpy that no longer wraps numbers below 0.

Symptom: a pipeline with `ColorJitter` and its `hue`, as all self-supervised ones of mmpretrain
have it, ends in `OverflowError: Python integer -22 out of bounds for uint8`.

Versions: numpy >= 2; mmcv 2.1, whose `adjust_hue` makes an unsigned number of a shift below 0.

Way out: such a shift is made here, to the values that numpy 1 gave.

Delete when: mmcv wraps the number itself.
"""

import functools
from typing import TYPE_CHECKING, Any

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

if TYPE_CHECKING:
    import numpy as np

WRITTEN_FOR = {'mmcv-lite': '>=2.1,<2.2'}


def apply() -> None:
    """Makes `mmcv.adjust_hue` take what is below 0, where numpy refuses it."""
    after_import('mmcv.image.photometric', _accept_negative)


def _accept_negative(module: Any) -> None:
    import numpy as np

    try:
        np.uint8(-1)
    except OverflowError:
        pass
    else:  # before numpy 2
        return
    adjust_hue = module.adjust_hue

    @functools.wraps(adjust_hue)
    def adjust_any(
        img: 'np.ndarray', hue_factor: float, backend: str | None = None
    ) -> 'np.ndarray':
        backend = backend or module.imread_backend
        known = backend in ('cv2', 'pillow') and np.ndim(img) == 3
        if not known or not -0.5 <= hue_factor < 0:
            return adjust_hue(img, hue_factor, backend)
        return _turn_back(img, int(hue_factor * 255) % 256, backend)

    module.adjust_hue = adjust_any
    record(__name__)


def _turn_back(img: 'np.ndarray', shift: int, backend: str) -> 'np.ndarray':
    """Adds a shift of 0 to 255 to the hues of an image, (H, W, 3) BGR."""
    import cv2
    import numpy as np
    from PIL import Image

    if backend == 'cv2':
        hsv = cv2.cvtColor(img.astype(np.uint8), cv2.COLOR_BGR2HSV_FULL)
        hsv[..., 0] += np.uint8(shift)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL).astype(img.dtype)
    hue, *others = Image.fromarray(np.ascontiguousarray(img[..., ::-1])).convert('HSV').split()
    hue = hue.point([(value + shift) % 256 for value in range(256)])
    return np.array(Image.merge('HSV', (hue, *others)).convert('RGB'), img.dtype)[..., ::-1]
