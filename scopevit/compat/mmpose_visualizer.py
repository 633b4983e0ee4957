"""Let mmpose draw keypoints with a numpy that no longer makes a number of an array of one.

Symptom: visualisation, in training, testing or a demo, ends in `TypeError: only 0-dimensional
arrays can be converted to Python scalars`.

Versions: numpy >= 2.4 (a DeprecationWarning since 1.25); mmpose 1.3, whose visualizers pass the
radius of a circle as `np.array([radius])` and whose OpenCV backend takes `int(radius)` of it.

Way out: the backend makes a number of such an array before it draws.

Delete when: mmpose passes a number.
"""

import functools
import warnings
from types import ModuleType
from typing import Any

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

WRITTEN_FOR = {'mmpose': '>=1.3,<1.4'}


def apply() -> None:
    """Makes the OpenCV backend take a radius of one element, where numpy refuses it."""
    after_import('mmpose.visualization.opencv_backend_visualizer', _correct)


def _correct(module: ModuleType) -> None:
    if _numpy_refuses():
        _accept_radius_of_one_element(module)


def _numpy_refuses() -> bool:
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            int(np.zeros(1))
        except TypeError:
            return True
    return False


def _accept_radius_of_one_element(module: ModuleType) -> None:
    import numpy as np

    cls = module.OpencvBackendVisualizer
    draw_circles = cls.draw_circles

    @functools.wraps(draw_circles)
    def with_scalar_radius(self: Any, center: Any, radius: Any, *args: Any, **kwargs: Any) -> Any:
        # The matplotlib backend insists on an array.
        if self.backend == 'opencv' and np.size(radius) == 1:
            radius = np.asarray(radius).item()
        return draw_circles(self, center, radius, *args, **kwargs)

    cls.draw_circles = with_scalar_radius
    record(__name__)
