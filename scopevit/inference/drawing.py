"""Pictures of results, with labels that leave the picture to be seen."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scopevit.inference.images import MAX_TILED_PIXELS, read_image
from scopevit.inference.masks import cut_out
from scopevit.inference.recipe import Loading
from scopevit.inference.results import (
    ClassificationResult,
    DetectionResult,
    PoseResult,
    Result,
    SegmentationResult,
    pick_color,
)

# Small images are enlarged to about this many pixels, for lines and text to be readable.
LONG_SIDE = 480
# Larger ones are drawn smaller.
LONGEST_SIDE = 8192
OPACITY = 0.45  # of masks
MIN_KEYPOINT_SCORE = 0.3
Color = tuple[int, int, int]


def draw(result: Result) -> np.ndarray:
    """Draws a result onto its image, with a strip of text below that names what is there.

    The strip is as high for every image of one size and task, as a video needs.

    Returns:
        The picture, (H', W', 3) RGB uint8.
    """
    pixels = result.image
    if pixels is None:
        pixels = read_image(Path(result.source), Loading(), 3, MAX_TILED_PIXELS)
    longest = max(pixels.shape[:2])
    scale = LONGEST_SIDE / longest if longest > LONGEST_SIDE else max(1, round(LONG_SIDE / longest))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    pixels = cv2.resize(pixels, (width, height), interpolation=kind)
    code = cv2.COLOR_GRAY2RGB if pixels.ndim == 2 else cv2.COLOR_BGR2RGB
    pixels = cv2.cvtColor(pixels, code)
    if isinstance(result, DetectionResult):
        pixels = draw_objects(pixels, result, scale)
    elif isinstance(result, SegmentationResult):
        pixels = draw_classes(pixels, result)
    elif isinstance(result, PoseResult):
        pixels = draw_people(pixels, result, scale)
    return np.vstack([pixels, draw_strip(list(entries(result)), pixels, strip_lines(result))])


def entries(result: Result) -> Iterator[tuple[str, Color]]:
    """Yields what the strip of a result says, and the colour of each."""
    labels = result.labels
    if isinstance(result, ClassificationResult):
        for label, score in zip(result.classes.tolist(), result.scores.tolist()):
            yield f'{labels.name(label)} {score:.2f}', labels.color(label)
    elif isinstance(result, DetectionResult):
        numbers, counts = np.unique(result.classes, return_counts=True)
        for label, count in zip(numbers.tolist(), counts.tolist()):
            yield f'{count} {labels.name(label)}', labels.color(label)
    elif isinstance(result, SegmentationResult):
        for label, share in result.shares.items():
            yield f'{labels.name(label)} {share:.0%}', labels.color(label)
    elif isinstance(result, PoseResult):
        for i, score in enumerate(result.scores):
            yield f'{score:.2f}', pick_color((), i)


def strip_lines(result: Result) -> int:
    """Returns the lines of a strip: a class each in a classification, otherwise two."""
    return len(result.classes) if isinstance(result, ClassificationResult) else 2


def draw_strip(said: list[tuple[str, Color]], pixels: np.ndarray, lines: int) -> np.ndarray:
    """Draws colours and texts onto white, (H', W, 3), as wide as a picture; as many as fit."""
    size = text_size(pixels)
    width, line = pixels.shape[1], round(1.5 * size)
    strip = Image.new('RGB', (width, line * lines + size // 2), 'white')
    pen, font = ImageDraw.Draw(strip), load_font(size)
    # In a classification, each has a line of its own.
    x, y = size // 2, size // 2
    for i, (text, color) in enumerate(said):
        needed = round(2 * size + font.getlength(text))
        is_new_line = lines > 2 or x + needed > width
        if i and is_new_line:
            x, y = size // 2, y + line
        if y + size > strip.height:
            break
        pen.rectangle((x, y, x + size - 1, y + size - 1), color, 'black')
        pen.text((x + round(1.4 * size), y + size // 2), text, 'black', font, anchor='lm')
        x += needed + size
    return np.asarray(strip)


def draw_objects(pixels: np.ndarray, result: DetectionResult, scale: float) -> np.ndarray:
    """Draws masks and boxes; the score of a box stands above it where that is wide enough."""
    colors = [result.labels.color(label) for label in result.classes.tolist()]
    for rle, color in zip(result.rles or (), colors):
        draw_mask(pixels, rle, scale, color)
    picture = Image.fromarray(pixels)
    pen, width = ImageDraw.Draw(picture), line_width(pixels)
    size = max(9, round(0.7 * text_size(pixels)))
    font = load_font(size)
    taken: list[tuple[float, float, float, float]] = []
    # The best last, above the others.
    for i in np.argsort(result.scores, kind='stable').tolist():
        pen.rectangle(corners(result.boxes[i], scale), outline=colors[i], width=width)
    for i in np.argsort(-result.scores, kind='stable').tolist():
        left, top, right, _ = corners(result.boxes[i], scale)
        text = f'{result.scores[i]:.2f}'
        length = font.getlength(text) + 4
        y = top - size - 2 if top >= size + 2 else top
        place = (left, y, left + length, y + size + 2)
        if length > right - left or any(overlap(place, other) for other in taken):
            continue
        taken.append(place)
        pen.rectangle(place, colors[i])
        ink = 'black' if sum(colors[i]) > 380 else 'white'
        pen.text((left + 2, y + size // 2 + 1), text, ink, font, anchor='lm')
    return np.asarray(picture)


def draw_mask(pixels: np.ndarray, rle: dict[str, Any], scale: float, color: Color) -> None:
    """Lays the colour of a mask in COCO's compressed form over a picture, in place."""
    mask, top, left = cut_out(rle)
    if not mask.size:
        return
    y, x = (min(round(start * scale), end - 1) for start, end in zip((top, left), pixels.shape))
    bottom, right = (round((a + n) * scale) for a, n in zip((top, left), mask.shape))
    part = pixels[y : max(bottom, y + 1), x : max(right, x + 1)]
    blend(part, resized(mask, part) > 0, color)


def draw_classes(pixels: np.ndarray, result: SegmentationResult) -> np.ndarray:
    """Lays the colours of the classes over the picture, but for black ones: a background's."""
    numbers = list(result.shares)
    table = np.zeros((max(numbers, default=0) + 1, 3), np.uint8)
    for label in numbers:
        table[label] = result.labels.color(label)
    colors = table[resized(result.class_map, pixels)]  # (H', W', 3)
    mixed = cv2.addWeighted(pixels, 1 - OPACITY, colors, OPACITY, 0)
    return np.where(colors.any(axis=2, keepdims=True), mixed, pixels)


def draw_people(pixels: np.ndarray, result: PoseResult, scale: float) -> np.ndarray:
    """Draws boxes, skeletons and keypoints, those whose score is not small."""
    picture = Image.fromarray(pixels)
    pen, width = ImageDraw.Draw(picture), line_width(pixels)
    radius = width + 1
    for i, points in enumerate((result.keypoints + 0.5) * scale):
        color = pick_color((), i)
        shown = result.keypoint_scores[i] >= MIN_KEYPOINT_SCORE
        pen.rectangle(corners(result.boxes[i], scale), outline=color)
        for a, b in result.labels.skeleton:
            if shown[a] and shown[b]:
                pen.line((*points[a], *points[b]), color, width)
        for k, (x, y) in enumerate(points):
            if shown[k]:
                inner = pick_color(result.labels.keypoint_palette, k)
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), inner, 'white')
    return np.asarray(picture)


def blend(pixels: np.ndarray, mask: np.ndarray, color: Color) -> None:
    """Lays a colour over the pixels, (H, W, 3), of a mask, (H, W), in place."""
    mixed = (1 - OPACITY) * pixels[mask] + OPACITY * np.array(color)
    pixels[mask] = mixed.astype(np.uint8)


def resized(numbers: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Returns an array (H, W) in the size of a picture, (H', W', 3)."""
    height, width = pixels.shape[:2]
    return cv2.resize(numbers, (width, height), interpolation=cv2.INTER_NEAREST)


def corners(box: np.ndarray, scale: float) -> tuple[float, float, float, float]:
    """Returns a box in the pixels of a resized picture, at least one pixel wide."""
    left, top, right, bottom = (float(number) * scale for number in box)
    return left, top, max(left + 1, right), max(top + 1, bottom)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two boxes have pixels in common."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def line_width(pixels: np.ndarray) -> int:
    """Returns the width of lines in a picture."""
    return max(1, round(max(pixels.shape[:2]) / 400))


def text_size(pixels: np.ndarray) -> int:
    """Returns the height of text in a picture."""
    return int(np.clip(round(pixels.shape[1] / 40), 12, 40))


@cache
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Loads the font that comes with matplotlib, which has most letters."""
    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    return ImageFont.truetype(path, size)
