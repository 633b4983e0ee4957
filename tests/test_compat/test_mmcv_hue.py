"""Hues turned backwards by mmcv, against torchvision and against colours known by name."""

import mmcv
import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (13, 17, 3), np.uint8)  # BGR


@pytest.mark.parametrize('factor', [-0.5, -0.09, -0.001, 0.0, 0.2, 0.5])
def test_pillow_is_torchvision(image, factor):
    expected = functional.adjust_hue(Image.fromarray(image[..., ::-1].copy()), factor)
    found = mmcv.adjust_hue(image, factor, backend='pillow')
    assert found.dtype == np.uint8
    assert (found == np.asarray(expected)[..., ::-1]).all()


# A step of hue, one of 256, is 6 of 255 in a channel.
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_opencv_turns_red_to_blue_and_back(dtype):
    red = np.array([[[0, 0, 255]]], dtype)
    blue = mmcv.adjust_hue(red, -1 / 3, backend='cv2')
    assert blue.dtype == dtype
    assert blue.ravel().tolist() == pytest.approx([255, 0, 0], abs=7)
    assert mmcv.adjust_hue(blue, 1 / 3).ravel().tolist() == pytest.approx([0, 0, 255], abs=7)


def test_what_mmcv_refuses_is_refused(image):
    with pytest.raises(ValueError, match='is not in'):
        mmcv.adjust_hue(image, -0.6)
    with pytest.raises(ValueError, match='is not supported'):
        mmcv.adjust_hue(image, -0.1, backend='turbojpeg')
    with pytest.raises(TypeError, match='ndarray'):
        mmcv.adjust_hue([[1]], -0.1)
