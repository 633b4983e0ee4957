"""Samples for the picture of a check: images as they are loaded, annotations as they are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import mmcv
import numpy as np
from PIL import Image, ImageDraw

from scopevit.inference.drawing import draw_strip
from scopevit.inference.results import pick_color
from scopevit.preflight.findings import Finding
from scopevit.preflight.images import loader
from scopevit.preflight.label_maps import meaning
from scopevit.preflight.samples import Part

LONG_SIDE = 480  # pixels
OPACITY = 0.5  # of label maps
IGNORED = (90, 90, 90)
TRIES = 3  # for each sample that is wanted
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Sample:
    """A sample that was drawn, (H, W, 3) RGB; `found` is what was found in it, '' for nothing."""

    split: str
    name: str
    pixels: np.ndarray
    found: str = ''


def draw_samples(parts: list[Part], findings: list[Finding], number: int) -> list[Sample]:
    """Draws samples: those with findings first, then some from all over the training set."""
    marked = marked_files(findings)
    samples: list[Sample] = []
    for part, row in choose(parts, marked, number):
        if len(samples) < number:
            file = part.files[row]
            pixels = draw_sample(part, row)
            if pixels is not None:
                name = Path(file).name or f'sample {row}'
                samples.append(Sample(part.split, name, pixels, marked.get(file, '')))
    return samples


def marked_files(findings: list[Finding]) -> dict[str, str]:
    """Returns what was first found in the files that findings name."""
    marked: dict[str, str] = {}
    for found in findings:
        if found.level != 'note':
            for file in found.files:
                marked.setdefault(file, found.what)
    return marked


def choose(parts: list[Part], marked: dict[str, str], number: int) -> Iterator[tuple[Part, int]]:
    """Yields images by their rows: of each finding one, of each a second, ..., and others."""
    turns: dict[str, int] = {}
    chosen = []
    for part in parts:
        for row, file in enumerate(part.files):
            what = marked.get(file)
            if what:
                turns[what] = turns.get(what, 0) + 1
                chosen.append((turns[what], part, row))
    yield from ((part, row) for _, part, row in sorted(chosen, key=lambda item: item[0]))
    train = [part for part in parts if part.split == 'train' and part.files]
    for part in train:
        last = len(part.files) - 1
        rows = [int(i) for n in (number, TRIES * number) for i in np.linspace(0, last, n)]
        others = [row for row in dict.fromkeys(rows) if not marked.get(part.files[row])]
        yield from ((part, row) for row in others)


def draw_sample(part: Part, row: int) -> np.ndarray | None:
    """Draws an image with its annotations, (H, W, 3) RGB; None where it cannot be read."""
    pixels = read_pixels(part, row)
    if pixels is None:
        return None
    height, width = pixels.shape[:2]
    scale = LONG_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    pixels = cv2.resize(pixels, size, interpolation=kind)
    own = np.flatnonzero(part.owners == row)
    said: dict[str, Color] = {}
    if part.maps:
        pixels, said = draw_map(pixels, part, row)
    elif part.scope == 'mmpose':
        pixels = draw_people(pixels, part, own, scale)
    elif part.boxes is not None:
        pixels, said = draw_boxes(pixels, part, own, scale)
    else:
        said = {name_of(part, label): color_of(part, label) for label in part.labels[own]}
    if not said:
        return pixels
    return np.vstack([pixels, draw_strip(list(said.items()), pixels, 1)])


def read_pixels(part: Part, row: int) -> np.ndarray | None:
    """Reads an image, (H, W, 3) RGB, turned or not as the pipeline does."""
    if not part.files[row]:
        return as_rgb(part.arrays[row]) if part.arrays else None
    flag, backend = loader(part.cfg)
    flag = 'color_ignore_orientation' if flag == 'unchanged' else flag
    try:
        content = Path(part.files[row]).read_bytes()
        pixels = mmcv.imfrombytes(content, flag, 'rgb', backend)
    # Damaged, as the table says.
    except (OSError, ValueError, SyntaxError, cv2.error):
        return None
    return None if pixels is None else as_rgb(pixels)


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Gives grey pixels, (H, W) or (H, W, 1), three channels."""
    return pixels if pixels.shape[2:] == (3,) else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)


def name_of(part: Part, label: int) -> str:
    """Returns the name of a label."""
    return part.classes[label] if 0 <= label < len(part.classes) else f'label {label}'


def color_of(part: Part, label: int) -> Color:
    """Returns the colour of a label: the data set's, if there is one."""
    palette = part.palette
    return palette[label] if 0 <= label < len(palette) else pick_color((), max(0, label))


def draw_boxes(
    pixels: np.ndarray, part: Part, own: np.ndarray, scale: float
) -> tuple[np.ndarray, dict[str, Color]]:
    """Draws the boxes of some annotations; returns the picture and the names of the classes."""
    assert part.boxes is not None
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    counts: dict[int, int] = {}
    for i in own:
        if np.isfinite(part.boxes[i]).all():
            label = int(part.labels[i])
            counts[label] = counts.get(label, 0) + 1
            pen.rectangle(corners(part.boxes[i], scale), outline=color_of(part, label), width=2)
    said = {f'{n} {name_of(part, label)}': color_of(part, label) for label, n in counts.items()}
    return np.asarray(picture), said


def draw_people(pixels: np.ndarray, part: Part, own: np.ndarray, scale: float) -> np.ndarray:
    """Draws the boxes and visible keypoints of some annotations, a colour each."""
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    for number, i in enumerate(own):
        color = pick_color((), number)
        if part.boxes is not None and np.isfinite(part.boxes[i]).all():
            pen.rectangle(corners(part.boxes[i], scale), outline=color)
        for x, y, seen in part.keypoints[i] if part.keypoints is not None else ():
            if seen > 0:
                x, y = (x + 0.5) * scale, (y + 0.5) * scale
                pen.ellipse((x - 4, y - 4, x + 4, y + 4), color, 'white')
    return np.asarray(picture)


def draw_map(pixels: np.ndarray, part: Part, row: int) -> tuple[np.ndarray, dict[str, Color]]:
    """Lays the colours of a label map over the picture; what is ignored is grey."""
    try:
        with Image.open(part.maps[row]) as image:
            labels = np.asarray(image)
    except (OSError, ValueError, SyntaxError):
        return pixels, {}
    if labels.ndim != 2:
        return pixels, {}
    how = meaning(part)
    labels = how.table[labels.astype(np.uint8)]
    size = pixels.shape[1::-1]
    labels = cv2.resize(labels.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    colors = np.array([color_of(part, i) for i in range(256)], np.uint8)
    colors[how.ignored] = IGNORED
    mixed = cv2.addWeighted(pixels, 1 - OPACITY, colors[labels], OPACITY, 0)
    said: dict[str, Color] = {}
    for label in np.unique(labels).tolist():
        name = 'ignored' if label == how.ignored else name_of(part, label)
        red, green, blue = map(int, colors[label])
        said[name] = (red, green, blue)
    return mixed, said


def corners(box: np.ndarray, scale: float) -> tuple[float, float, float, float]:
    """Returns the corners of a box, xywh, in the pixels of a picture."""
    x, y, width, height = (float(number) * scale for number in box)
    return x, y, x + max(1.0, width), y + max(1.0, height)
