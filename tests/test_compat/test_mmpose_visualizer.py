"""mmpose's OpenCV backend draws circles whose radius is an array of one."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from scopevit.compat import mmpose_visualizer


class Visualizer:
    """Takes its arguments as OpencvBackendVisualizer.draw_circles does."""

    def __init__(self, backend):
        self.backend = backend

    def draw_circles(self, center, radius, face_colors=None, **kwargs):
        return center, radius, face_colors, kwargs


@pytest.fixture
def cls():
    subclass = type('OpencvBackendVisualizer', (Visualizer,), {})
    mmpose_visualizer._accept_radius_of_one_element(
        SimpleNamespace(OpencvBackendVisualizer=subclass)
    )
    return subclass


def test_opencv_gets_a_number(cls):
    drawn = cls('opencv').draw_circles((1, 2), radius=np.array([4]), face_colors='r', alpha=0.5)
    assert drawn == ((1, 2), 4, 'r', {'alpha': 0.5})
    assert isinstance(drawn[1], int)
    assert cls('opencv').draw_circles((1, 2), 3)[1] == 3


def test_matplotlib_gets_the_array(cls):
    radius = np.array([4])
    assert cls('matplotlib').draw_circles((1, 2), radius)[1] is radius


def test_needed_exactly_where_numpy_refuses():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            refused = int(np.array([4])) != 4
        except TypeError:
            refused = True
    assert mmpose_visualizer._numpy_refuses() is refused


def test_mmpose_draws():
    module = pytest.importorskip('mmpose.visualization.opencv_backend_visualizer')
    visualizer = module.OpencvBackendVisualizer(name='circles', backend='opencv')
    visualizer.set_image(np.zeros((21, 21, 3), np.uint8))
    visualizer.draw_circles((10, 10), np.array([5]), face_colors=(255, 0, 0), alpha=1.0)
    image = visualizer.get_image()
    assert image[10, 14].tolist() == [255, 0, 0] and image[10, 17].tolist() == [0, 0, 0]
