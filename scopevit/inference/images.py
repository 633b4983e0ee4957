"""Images from files and arrays, as a test pipeline would load them."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import cv2
import mmcv
import numpy as np
from PIL import Image, UnidentifiedImageError

from scopevit.errors import InputError
from scopevit.inference.recipe import Loading

ENDINGS = ('.avif', '.bmp', '.gif', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
MAX_PIXELS = 100_000_000  # 300 MB once decoded
MAX_TILED_PIXELS = 2**30  # that OpenCV decodes; 3 GB then
MANY_PIXELS = 2**24  # 50 MB; larger ones are not decoded before their turn
PILLOW = threading.Lock()  # Pillow's limit is for all threads


def read_image(
    path: Path, loading: Loading, channels: int, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Reads an image file.

    The decoder is that of the test pipeline: it turns photographs as their EXIF says, and gives 8
    bits a channel, those of 16 their upper half.

    Args:
        path: The file.
        loading: How the pipeline loads images.
        channels: What the network takes, 1 or 3.
        max_pixels: Of the largest image.

    Returns:
        Pixels, (H, W, 3) or (H, W), as the pipeline takes them.

    Raises:
        InputError: If it is no image, damaged, larger than `max_pixels` or of several frames.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f'cannot read {path}: {error.strerror or error}') from error
    count = check_header(content, path, max_pixels)
    flag = loading.color_type or ('grayscale' if channels == 1 else 'color')
    try:
        # Others wait meanwhile: for no smaller images than need it.
        with any_size() if count > MAX_PIXELS else nullcontext():
            pixels = mmcv.imfrombytes(content, flag=flag, backend=loading.backend)
    except (cv2.error, OSError, ValueError) as error:
        raise InputError(f'damaged image: {path}') from error
    if pixels is None:
        raise InputError(f'damaged image, or one that OpenCV does not decode: {path}')
    return for_pipeline(pixels, loading, channels)


def check_header(content: bytes, path: Path, max_pixels: int) -> int:
    """Checks what kind of image a file holds before it is decoded; returns its pixels."""
    try:
        with any_size(), Image.open(io.BytesIO(content)) as image:
            (width, height), frames = image.size, getattr(image, 'n_frames', 1)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f'not an image, or a damaged one: {path}') from error
    check_pixels(height, width, path, max_pixels)
    if frames > 1 and image.format in ('GIF', 'PNG', 'WEBP', 'AVIF'):
        raise InputError(f'an animated image of {frames} frames, give them as images: {path}')
    return width * height


def count_pixels(path: Path) -> int:
    """Returns the pixels of an image as its header has them; 0 where that cannot be read."""
    try:
        with any_size(), Image.open(path) as image:
            return image.width * image.height
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return 0


@contextmanager
def any_size() -> Iterator[None]:
    """Lets Pillow open an image of any size: its own limit is lower than ours."""
    with PILLOW:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def check_pixels(height: int, width: int, name: Path | str, max_pixels: int) -> None:
    """Raises an InputError for an image that would fill the memory."""
    if height * width > max_pixels:
        advice = 'cut it into smaller images'
        if height * width <= MAX_TILED_PIXELS:
            advice = '--tile SIZE predicts it in tiles of that size, objects and classes of pixels'
        raise InputError(
            f'{name} has {width:,} x {height:,} pixels, more than {max_pixels:,}: {advice}'
        )


def read_array(array: object, name: str) -> np.ndarray:
    """Returns pixels that were given, (H, W, 3) BGR or (H, W), uint8.

    Args:
        array: A PIL image, or an array of NumPy as OpenCV gives it: (H, W), (H, W, 1), BGR or BGRA,
            of 8 or 16 bits a channel.
        name: What it is, for messages.

    Raises:
        InputError: If it is anything else.
    """
    if isinstance(array, Image.Image):
        if array.mode.startswith(('I;16', 'L', '1')) and array.mode != 'LAB':
            array = np.asarray(array.convert('L') if array.mode in ('1', 'LA') else array)
        else:
            array = np.asarray(array.convert('RGB'))[..., ::-1]
    if not isinstance(array, np.ndarray):
        raise InputError(f'{name}: give a file, an array of NumPy or a PIL image, not {array!r}')
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    shape = array.shape
    if array.dtype != np.uint8 or not array.size or (len(shape), *shape[2:]) not in FORMS:
        raise InputError(
            f'{name}: an image is an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or '
            f'uint16, not {shape} of {array.dtype}'
        )
    # (H, W, 1) -> (H, W), (H, W, 4) -> (H, W, 3)
    array = array[..., 0] if shape[2:] == (1,) else array[..., :3] if len(shape) == 3 else array
    return np.ascontiguousarray(array)


FORMS = ((2,), (3, 1), (3, 3), (3, 4))


def for_pipeline(pixels: np.ndarray, loading: Loading, channels: int) -> np.ndarray:
    """Gives pixels, (H, W, 3) BGR or (H, W), the channels that a pipeline takes.

    A pipeline that says nothing of it gets those of the network.
    """
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        pixels = pixels[..., 0] if pixels.shape[2] < 3 else pixels[..., :3]
    wants_gray = loading.color_type == 'grayscale' or (loading.color_type is None and channels == 1)
    if wants_gray and pixels.ndim == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    if not wants_gray and pixels.ndim == 2 and (channels == 3 or loading.color_type == 'color'):
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    return pixels
