"""Prediction from the command line: images in, pictures and tables out."""

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from scopevit.errors import INTERRUPTED, InputError, error_text
from scopevit.inference.output import Writer
from scopevit.inference.predictor import Predictor
from scopevit.inference.results import Result
from scopevit.inference.sources import open_sources
from scopevit.own_data.objects import is_number

WINDOW = 'scopevit predict'


def run_predict(
    checkpoint: str | Path,
    sources: list[str],
    out: str | Path | None = None,
    json_path: str | Path | None = None,
    csv_path: str | Path | None = None,
    save_video: bool = False,
    show: bool = False,
    boxes: str | Path | None = None,
    strict: bool = False,
    **options: Any,
) -> int:
    """Predicts all images of some sources, and says which are damaged.

    Args:
        checkpoint: Checkpoint file.
        sources: Files, folders, patterns, videos, or numbers of cameras.
        out: Folder for pictures; without it, and without files, answers are printed.
        json_path: File for JSON lines, one an image.
        csv_path: File for a table.
        save_video: Whether videos and folders become an annotated video each in `out`.
        show: Whether to show pictures in a window, until q is pressed.
        boxes: JSON file of boxes for poses: by name of the image, lists of left, top, right and
            bottom in pixels.
        strict: Whether a damaged image makes the exit code 1.
        options: More arguments of `Predictor`.

    Returns:
        The exit code: 130 where it was stopped by Ctrl-C, 1 where `strict` and an image was
        damaged, otherwise 0.

    Raises:
        InputError: If something given is wrong; nothing is written then.
    """
    if save_video and out is None:
        raise InputError('--save-video: name a folder for the videos by --out')
    silence_decoders()
    if show:
        check_screen()
    found = open_sources(list(sources))
    known = None if boxes is None else read_boxes(boxes)
    console = Console(stderr=True)
    with console.status(f'loading {checkpoint}'):  # shows on a terminal alone
        predictor = Predictor(checkpoint, **options)
    counts = [source.count for source in found]
    total = None if None in counts else sum(count or 0 for count in counts)
    damaged = done = 0
    is_stopped = False

    def skipped(error: InputError) -> None:
        nonlocal damaged
        damaged += 1
        console.print(
            f'skipped: {error_text(error)}', markup=False, highlight=False, soft_wrap=True
        )

    with ExitStack() as stack:
        writer = stack.enter_context(
            Writer(predictor.task, found, out, json_path, csv_path, save_video)
        )
        bar = stack.enter_context(progress_bar(console))
        task = bar.add_task('predict', total=total)
        results = predictor.stream(found, known, skipped)
        stack.callback(results.close)
        try:
            for result in results:
                done += 1
                writer.write(result)
                if json_path is None and csv_path is None:
                    print(line(result))
                bar.update(task, completed=done + damaged)
                if show and not show_picture(result):
                    break
        except KeyboardInterrupt:  # of a camera, say: what there is is written
            console.print('stopped')
            is_stopped = True
    if damaged:
        print(f'{damaged} damaged, skipped; {done} predicted', file=sys.stderr)
    return INTERRUPTED if is_stopped else int(strict and damaged > 0)


def line(result: Result) -> str:
    """Returns a result as a line."""
    frame = '' if result.frame is None else f' frame {result.frame}'
    return f'{result.source}{frame}: {result.summary()}'


def progress_bar(console: Console) -> Progress:
    """Returns a bar with the time left, which shows on a terminal alone."""
    columns = (
        TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn('left'), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def read_boxes(path: str | Path) -> dict[str, Any]:
    """Reads a file of boxes, see `run_predict`.

    Raises:
        InputError: If it is missing, or anything else.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f'cannot read {path}: {error.strerror or error}') from error
    except (ValueError, RecursionError) as error:
        raise InputError(f'not JSON: {path}: {error}') from error
    if not isinstance(content, dict) or not all(map(are_boxes, content.values())):
        raise InputError(
            f'{path}: boxes are a list by name of the image, as '
            '{"a.jpg": [[left, top, right, bottom]]}'
        )
    return content


def are_boxes(value: Any) -> bool:
    """Whether a value is a list of boxes, four numbers each or five with a score."""
    return (
        isinstance(value, list)
        and all(isinstance(box, list) and all(map(is_number, box)) for box in value)
        and set(map(len, value)) in (set(), {4}, {5})
    )


def check_screen() -> None:
    """Raises an InputError where pictures cannot be shown."""
    try:
        cv2.namedWindow(WINDOW)
    except cv2.error as error:
        raise InputError(
            '--show needs a screen, and an OpenCV that is not headless; without it, pictures are '
            'written by --out'
        ) from error


def show_picture(result: Result) -> bool:
    """Shows the picture of a result; returns whether to go on."""
    cv2.imshow(WINDOW, result.plot()[..., ::-1])
    return cv2.waitKey(1 if result.frame is not None else 0) not in (ord('q'), 27)


def silence_decoders() -> None:
    """Keeps OpenCV and FFmpeg from printing what they think of what is damaged: our line does."""
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # AV_LOG_QUIET
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
