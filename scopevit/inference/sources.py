"""Where images come from: files, folders, videos, cameras and arrays."""

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from scopevit.errors import InputError
from scopevit.inference import images

VIDEO_ENDINGS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')
DEFAULT_FPS = 25.0
MISSING = 0.01  # share of a video's frames that its header may promise too much


@dataclass(frozen=True)
class Item:
    """An image that is to be read.

    Attributes:
        source: What it is, for results: a path, or a name where it is none.
        name: Name for what is written about it, a relative path.
        group: Number of the source that it is from.
        frame: Its number in a video or from a camera, from 0.
        path: Its file.
        pixels: BGR, where it is no file.
    """

    source: str
    name: str
    group: int = 0
    frame: int | None = None
    path: Path | None = None
    pixels: np.ndarray | None = None


@dataclass(frozen=True)
class Source:
    """Images that belong together.

    Attributes:
        name: Stem for a file of all of them.
        count: How many there are, as far as it is known.
        fps: Frames a second, of a video.
        is_sequence: Whether the images are a video or a folder, and can be written as a video.
        is_camera: Whether they come live.
    """

    name: str
    count: int | None = None
    fps: float = DEFAULT_FPS
    is_sequence: bool = False
    is_camera: bool = False

    def items(self, group: int) -> Iterator[Item | InputError]:
        """Yields the images in their order; in place of what is damaged, an error."""
        raise NotImplementedError


@dataclass(frozen=True)
class Files(Source):
    """Image files, by their names for output."""

    paths: tuple[tuple[str, Path], ...] = ()

    def items(self, group: int) -> Iterator[Item]:
        for name, path in self.paths:
            yield Item(str(path), name, group, path=path)


@dataclass(frozen=True)
class Arrays(Source):
    """Arrays and PIL images."""

    arrays: Iterable[object] = ()

    def items(self, group: int) -> Iterator[Item | InputError]:
        for i, array in enumerate(self.arrays):
            name = f'image_{group + i:06d}'
            try:
                pixels = images.read_array(array, name)
            except InputError as error:
                yield error
            else:
                yield Item(name, f'{name}.png', group, pixels=pixels)


@dataclass(frozen=True)
class Video(Source):
    """A video file or a camera."""

    address: str | int = 0

    def items(self, group: int) -> Iterator[Item | InputError]:
        capture = open_video(self.address)
        try:
            number = 0
            while True:
                found, pixels = capture.read()
                if not found:
                    break
                name = f'{self.name}/{number:06d}.jpg'
                yield Item(str(self.address), name, group, number, pixels=pixels)
                number += 1
        finally:
            capture.release()
        if self.is_camera or (self.count or 0) * (1 - MISSING) > number + 1:
            promised = '' if self.count is None else f' of {self.count}'
            yield InputError(f'{self.address} breaks off after {number}{promised} frames')


def open_sources(given: object) -> list[Source]:
    """Finds the images that somebody names.

    Args:
        given: A file, a folder, a pattern as `images/*.jpg`, a video, the number of a camera, an
            array of NumPy, a PIL image, or several of these; also any iterable of arrays, which is
            read as it goes.

    Raises:
        InputError: If there is no such file or camera, or no image in a folder.
    """
    if isinstance(given, (str, Path, int)) and not isinstance(given, bool):
        return [open_source(given)]
    if isinstance(given, (np.ndarray, Image.Image)):
        return [Arrays('image', 1, arrays=(given,))]
    if isinstance(given, (list, tuple)):
        if not given:
            raise InputError('no images: the list is empty')
        if not any(isinstance(one, (str, Path, int)) for one in given):
            return [Arrays('images', len(given), arrays=given)]
        files = [str(one) for one in given if isinstance(one, (str, Path))]
        if len(files) == len(given) and all(is_image_file(file) for file in files):
            return [Files('images', len(files), paths=tuple(unique_names(files)))]
        return [source for one in given for source in open_sources(one)]
    if isinstance(given, Iterable):
        return [Arrays('images', arrays=given)]
    raise InputError(f'images come from files, folders, arrays and videos, not {given!r}')


def open_source(given: str | Path | int) -> Source:
    """Finds the images of one path, pattern or camera, see `open_sources`."""
    text, path = str(given), Path(given if not isinstance(given, int) else str(given))
    if path.is_dir():
        return open_folder(path)
    if path.is_file():
        if path.suffix.lower() in VIDEO_ENDINGS:
            return describe_video(str(path), path.stem)
        return Files(path.stem, 1, paths=((path.name, path),))
    if text.isdecimal():
        return describe_video(int(text), f'camera_{text}')
    if any(sign in text for sign in '*?['):
        found = sorted(glob.glob(text, recursive=True))
        files = [file for file in found if is_image_file(file)]
        if not files:
            raise InputError(f'no image matches {text}')
        return Files('images', len(files), paths=tuple(unique_names(files)))
    raise InputError(f'no such file or folder: {text}')


def open_folder(folder: Path) -> Files:
    """Finds the images in a folder and those below it."""
    files = sorted(path for path in folder.rglob('*') if is_image_file(str(path)))
    if not files:
        raise InputError(
            f'no images in {folder}: none of its files ends in {", ".join(images.ENDINGS)}'
        )
    paths = tuple((path.relative_to(folder).as_posix(), path) for path in files)
    return Files(folder.resolve().name, len(files), is_sequence=True, paths=paths)


def is_image_file(text: str) -> bool:
    """Whether a path is that of a file with an image's ending."""
    return text.lower().endswith(images.ENDINGS) and Path(text).is_file()


def unique_names(files: list[str]) -> Iterator[tuple[str, Path]]:
    """Yields files and their names for output, where two have one name with a number."""
    taken: dict[str, int] = {}
    for path in map(Path, files):
        number = taken[path.name] = taken.get(path.name, 0) + 1
        yield path.name if number == 1 else f'{path.stem}_{number}{path.suffix}', path


def describe_video(address: str | int, name: str) -> Video:
    """Opens a video for its length and speed."""
    capture = open_video(address)
    count, fps = (capture.get(key) for key in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
    capture.release()
    is_camera = isinstance(address, int)
    return Video(
        name,
        int(count) if count > 0 and not is_camera else None,
        fps if 0 < fps < 1000 else DEFAULT_FPS,
        is_sequence=True,
        is_camera=is_camera,
        address=address,
    )


def open_video(address: str | int) -> cv2.VideoCapture:
    """Opens a video file or a camera."""
    capture = cv2.VideoCapture(address)
    if not capture.isOpened():
        capture.release()
        what = f'no camera {address}' if isinstance(address, int) else f'not a video: {address}'
        raise InputError(f'{what}, or OpenCV cannot read it')
    return capture
