"""What is written of results: pictures, videos, JSON lines and CSV."""

import csv
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np

from scopevit.errors import InputError
from scopevit.files import replacing, to_json
from scopevit.inference.results import (
    ClassificationResult,
    DetectionResult,
    PoseResult,
    Result,
    SegmentationResult,
)
from scopevit.inference.sources import Source

PICTURE_ENDINGS = ('.jpg', '.jpeg', '.png', '.webp')  # others become .png
COLUMNS = {
    'classification': ('rank', 'class', 'label', 'score'),
    'detection': ('class', 'label', 'score', 'left', 'top', 'right', 'bottom'),
    'segmentation': ('class', 'label', 'share'),
    'pose': ('person', 'box_score', 'keypoint', 'x', 'y', 'score'),
}


def rows(result: Result) -> Iterator[tuple[Any, ...]]:
    """Yields the rows of a table, a class, object or keypoint each, as `COLUMNS` has them."""
    labels = result.labels
    if isinstance(result, ClassificationResult):
        pairs = zip(result.classes.tolist(), result.scores.tolist())
        for rank, (label, score) in enumerate(pairs, 1):
            yield rank, label, labels.name(label), round(score, 6)
    elif isinstance(result, DetectionResult):
        for one in result.content()['objects']:
            yield one['class'], one['label'], one['score'], *one['box']
    elif isinstance(result, SegmentationResult):
        for label, share in result.shares.items():
            yield label, labels.name(label), round(share, 6)
    elif isinstance(result, PoseResult):
        for i, person in enumerate(result.content()['people']):
            for one in person['keypoints']:
                yield i, person['box_score'], one['name'], one['x'], one['y'], one['score']


class Writer:
    """Writes results, each file whole or not at all; use it in a `with` statement.

    Args:
        task: Their task.
        sources: Where the images come from.
        out: Folder for pictures and videos.
        json_path: File for JSON lines, one an image.
        csv_path: File for a table.
        save_video: Whether videos and folders become a video each, instead of pictures.

    Raises:
        InputError: If a file cannot be written, or a picture would replace the image it is of.
    """

    def __init__(
        self,
        task: str,
        sources: list[Source],
        out: str | Path | None = None,
        json_path: str | Path | None = None,
        csv_path: str | Path | None = None,
        save_video: bool = False,
    ) -> None:
        self._sources, self._out = sources, None if out is None else Path(out)
        self._save_video = save_video
        self._written: set[Path] = set()
        self._videos: dict[int, cv2.VideoWriter] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._stack = ExitStack()
        with ExitStack() as stack:
            self._json = None if json_path is None else open_text(stack, json_path)
            self._csv = None
            if csv_path is not None:
                self._csv = csv.writer(open_text(stack, csv_path))
                self._csv.writerow(('source', 'frame', *COLUMNS[task]))
            self._stack = stack.pop_all()

    def __enter__(self) -> 'Writer':
        return self

    def __exit__(self, *error: Any) -> None:
        for video in self._videos.values():
            video.release()
        self._stack.__exit__(*error)

    def write(self, result: Result) -> None:
        """Writes a result to all files."""
        if self._json is not None:
            self._json.write(json.dumps(to_json(result.to_dict()), allow_nan=False) + '\n')
        if self._csv is not None:
            frame = '' if result.frame is None else result.frame
            self._csv.writerows((result.source, frame, *row) for row in rows(result))
        if self._out is None:
            return
        if self._save_video and self._sources[result.group].is_sequence:
            self._write_frame(result)
        else:
            write_picture(self._picture_path(result), result.plot())

    def _picture_path(self, result: Result) -> Path:
        """Returns the file of a result's picture, in the folder of the output."""
        assert self._out is not None
        path = self._out / result.name
        if path.suffix.lower() not in PICTURE_ENDINGS:
            path = path.with_name(f'{path.name}.png')
        if result.frame is None:  # frames have numbers
            stem, number = path.stem, 2
            while path in self._written:
                path = path.with_stem(f'{stem}_{number}')
                number += 1
            self._written.add(path)
        if path.exists() and os.path.exists(result.source) and path.samefile(result.source):
            raise InputError(f'the picture would replace its image, {path}: name another --out')
        return path

    def _write_frame(self, result: Result) -> None:
        group, source = result.group, self._sources[result.group]
        picture = result.plot()
        height, width = (length - length % 2 for length in picture.shape[:2])  # as encoders need
        if group not in self._videos:
            assert self._out is not None
            path = self._out / f'{source.name}.mp4'
            while path in self._written:
                path = path.with_stem(f'{path.stem}_2')
            self._written.add(path)
            if os.path.exists(result.source) and path.exists() and path.samefile(result.source):
                raise InputError(f'the video would replace its source, {path}: name another --out')
            part = self._stack.enter_context(replacing(path, '.mp4'))
            code = cv2.VideoWriter.fourcc(*'mp4v')
            self._videos[group] = cv2.VideoWriter(str(part), code, source.fps, (width, height))
            self._sizes[group] = (height, width)
            if not self._videos[group].isOpened():
                raise InputError(f'OpenCV cannot write {path}')
        if self._sizes[group] != (height, width):
            raise InputError(
                f'--save-video: {result.source} has another size than the images before it'
            )
        self._videos[group].write(np.ascontiguousarray(picture[:height, :width, ::-1]))


def open_text(stack: ExitStack, path: str | Path) -> TextIO:
    """Opens a text file that is at its place once a stack ends without error."""
    part = stack.enter_context(replacing(path))
    try:
        return stack.enter_context(part.open('w', encoding='utf-8', newline=''))
    except OSError as error:
        raise InputError(f'cannot write {path}: {error.strerror}') from error


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes an RGB picture, (H, W, 3), in the format of its ending."""
    done, content = cv2.imencode(path.suffix, picture[..., ::-1])
    if not done:
        raise InputError(f'cannot write {path}')
    with replacing(path) as part:
        part.write_bytes(content.tobytes())
