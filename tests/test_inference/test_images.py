"""Images of every kind, as the libraries' loader reads them, or refused in one line."""

import io
import struct
import zlib

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image

from scopevit.errors import InputError
from scopevit.inference.images import read_array, read_image
from scopevit.inference.recipe import Loading

RAMP = np.linspace(0, 255, 48 * 64 * 3).reshape(48, 64, 3).astype(np.uint8)
FILES, ARRAYS = Loading(), Loading(color_type=None, is_rgb=True)


def rgb() -> Image.Image:
    return Image.fromarray(RAMP)


@pytest.mark.parametrize(
    ('mode', 'name', 'tolerance'),
    [
        ('RGB', 'a.png', 0), ('L', 'a.png', 0), ('P', 'a.png', 0), ('RGBA', 'a.png', 0),
        ('LA', 'a.png', 0), ('1', 'a.png', 0), ('P', 'a.gif', 0), ('CMYK', 'a.tif', 0),
        ('CMYK', 'a.jpg', 4), ('RGB', 'a.jpg', 4), ('RGB', 'a.bmp', 0),
    ],
)  # fmt: skip
def test_modes_become_colour_as_pillow_has_it(mode, name, tolerance, tmp_path):
    rgb().convert(mode).save(tmp_path / name)
    pixels = read_image(tmp_path / name, FILES, 3)
    with Image.open(tmp_path / name) as image:
        wanted = np.asarray(image.convert('RGB'))[..., ::-1].astype(int)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels - wanted).max() <= tolerance
    assert read_image(tmp_path / name, ARRAYS, 1).shape == (48, 64)


def test_sixteen_bits_keep_their_upper_half(tmp_path):
    wide = RAMP[..., 0].astype(np.uint16) * 256 + 7
    cv2.imwrite(str(tmp_path / 'a.png'), wide)
    assert (read_image(tmp_path / 'a.png', FILES, 3)[..., 0] == RAMP[..., 0]).all()
    assert (read_array(wide, 'a') == RAMP[..., 0]).all()


def test_turned_as_the_librarys_loader_does(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    rgb().save(tmp_path / 'a.jpg', exif=exif)
    pixels = read_image(tmp_path / 'a.jpg', FILES, 3)
    assert pixels.shape == (64, 48, 3)
    assert (pixels == mmcv.imread(str(tmp_path / 'a.jpg'))).all()


def test_arrays_and_pil_images_are_the_same():
    bgr = RAMP[..., ::-1]
    assert (read_array(rgb(), 'a') == bgr).all()
    assert (read_array(bgr, 'a') == bgr).all()
    assert (read_array(np.dstack([bgr, RAMP[..., 0]]), 'a') == bgr).all()
    assert (read_array(RAMP[..., :1], 'a') == RAMP[..., 0]).all()
    assert (read_array(rgb().convert('L'), 'a') == np.asarray(rgb().convert('L'))).all()
    assert read_array(rgb().convert('1'), 'a').max() == 255
    assert (read_array(rgb().convert('P'), 'a').shape) == (48, 64, 3)


@pytest.mark.parametrize(
    'array',
    [RAMP.astype(float), RAMP > 1, RAMP[None], RAMP[:0], np.zeros((4, 4, 2), np.uint8), 'text'],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(InputError, match='^here: '):
        read_array(array, 'here')


@pytest.mark.parametrize('name', ['a.png', 'a.jpg', 'a.bmp', 'a.webp', 'a.tif', 'a.gif'])
@pytest.mark.parametrize('share', [0, 0.02, 0.5, 0.95])
def test_truncated_files_are_damaged(name, share, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=f'damaged.*{name}'):
        read_image(tmp_path / name, FILES, 3)


def test_a_text_file_is_no_image(tmp_path):
    (tmp_path / 'a.jpg').write_text('hello')
    with pytest.raises(InputError, match='not an image, or a damaged one: .*a.jpg'):
        read_image(tmp_path / 'a.jpg', FILES, 3)
    with pytest.raises(InputError, match='cannot read .*b.jpg: No such file'):
        read_image(tmp_path / 'b.jpg', FILES, 3)


@pytest.mark.parametrize('width', [30000, 10001])
def test_huge_images_are_refused_before_they_are_decoded(width, tmp_path):
    header = struct.pack('>IIBBBBB', width, width, 8, 2, 0, 0, 0)
    chunk = b'IHDR' + header
    content = b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + chunk
    content += struct.pack('>I', zlib.crc32(chunk)) + struct.pack('>I', 0) + b'IDAT'
    (tmp_path / 'a.png').write_bytes(content + struct.pack('>I', zlib.crc32(b'IDAT')))
    size = f'{width:,} x {width:,}'
    with pytest.raises(InputError, match=f'a.png has {size} pixels, more than 100,000,000: --tile'):
        read_image(tmp_path / 'a.png', FILES, 3)


@pytest.mark.parametrize('ending', ['gif', 'png', 'webp'])
def test_animated_images_are_refused(ending, tmp_path):
    frames = [rgb(), rgb().transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
    buffer = io.BytesIO()
    frames[0].save(buffer, ending, save_all=True, append_images=frames[1:])
    path = tmp_path / f'a.{ending}'
    path.write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match=f'an animated image of 2 frames.*a.{ending}'):
        read_image(path, FILES, 3)


def test_large_image_by_pillow(tmp_path, monkeypatch):
    rgb().save(tmp_path / 'a.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    monkeypatch.setattr('scopevit.inference.images.MAX_PIXELS', 1000)
    loading = Loading(backend='pillow')
    assert (read_image(tmp_path / 'a.png', loading, 3, 5000) == RAMP[..., ::-1]).all()
    assert Image.MAX_IMAGE_PIXELS == 1000
    with pytest.raises(InputError, match='a.png has 64 x 48 pixels, more than 3,000'):
        read_image(tmp_path / 'a.png', loading, 3, 3000)
