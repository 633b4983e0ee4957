"""Label maps: labels that are no class, and classes that `reduce_zero_label` takes away."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scopevit.preflight.files import BINS, Opened, open_map
from scopevit.preflight.findings import Finding
from scopevit.preflight.images import PROBLEMS, loader_turns
from scopevit.preflight.samples import SHOWN_FILES, Part

IGNORED = 255
REDUCED = 'reduce_zero_label'
FEW_MAPS = 30  # that the quick check opens
MOST_MAPS = 2000  # that it opens to make sure


@dataclass(frozen=True)
class Meaning:
    """What mmseg makes of the numbers in label maps.

    Attributes:
        count: Classes.
        ignored: Number that is left out, as loaded.
        reduces: Whether 0 is left out, and the others are one less.
        table: Label as loaded of each number, (256,).
    """

    count: int
    ignored: int
    reduces: bool
    table: np.ndarray


def meaning(part: Part) -> Meaning:
    """Returns what the labels of a part mean, by its config."""
    table = np.arange(BINS)
    if part.reduces:
        table = np.where(table == 0, IGNORED, table - 1)
        table[IGNORED] = IGNORED
    known = table.copy()
    for old, new in part.renumbered.items():
        table[known == old] = new
    return Meaning(len(part.classes), part.ignored, part.reduces, table)


def fill_from_maps(part: Part, opened: dict[str, Opened]) -> None:
    """Fills in the labels on the maps: each once an image, as loaded."""
    how = meaning(part)
    rows, labels = [], []
    for i, file in enumerate(part.maps):
        counts = opened[file].labels if file in opened else None
        if counts is not None:
            found = np.unique(how.table[np.flatnonzero(counts)])
            found = found[(found < how.count) & (found != how.ignored)]
            rows += [i] * len(found)
            labels += found.tolist()
    part.owners, part.labels = np.array(rows, np.int64), np.array(labels, np.int64)


def check_maps(part: Part, maps: dict[str, Opened], images: dict[str, Opened]) -> Iterator[Finding]:
    """Yields what is wrong with the label maps of a part, those that were opened."""
    known = {file: maps[file] for file in part.maps if file in maps}
    for problem, (what, _) in PROBLEMS.items():
        files = [file for file, opened in known.items() if opened.problem == problem]
        if files and problem != 'missing':
            text = f'cannot load {files[0]}: {known[files[0]].said}'
            what = what.replace('images', 'label maps')
            yield Finding('error', what, part.split, len(files), text)
    if not part.classes:
        return
    how = meaning(part)
    numbers = np.arange(BINS)
    wrong = (how.table >= how.count) & (how.table != how.ignored)
    bad = {f: numbers[wrong & (o.labels > 0)] for f, o in known.items() if o.labels is not None}
    files = [file for file, found in bad.items() if len(found)]
    if files:
        text = (
            f'label {how.table[bad[files[0]]].max()} in {files[0]}: the data set has {how.count} '
            f'classes, labels 0 to {how.count - 1} and {how.ignored} for ignored pixels'
        )
        images_of = dict(zip(part.maps, part.files))
        shown = tuple(images_of[file] for file in files[:SHOWN_FILES])
        yield Finding('error', 'labels out of range', part.split, len(files), text, shown)
    yield from check_reduced(part, how, known)
    yield from check_map_sizes(part, maps, images)


def check_reduced(part: Part, how: Meaning, known: dict[str, Opened]) -> Iterator[Finding]:
    """Yields whether `reduce_zero_label` leaves out a class.

    Maps that it is made for have one label more than classes, 0 for what is none of them.
    """
    if not how.reduces or not part.maps or how.count >= BINS:
        return
    total = sum(o.labels for o in known.values() if o.labels is not None)
    if not isinstance(total, np.ndarray) or not total[: how.count].all() or total[how.count]:
        return
    rest = [file for file in part.maps if file not in known]
    if any(has_label(file, how.count) for file in rest[:MOST_MAPS]):
        return
    text = (
        f'{part.key}: reduce_zero_label=True takes label 0, {part.classes[0]}, away and calls '
        f'the others by the names before theirs: the labels on the maps are 0 to {how.count - 1}, '
        f'as many as classes; set reduce_zero_label=False'
    )
    count = sum(bool(o.labels[0]) for o in known.values() if o.labels is not None)
    yield Finding('error', REDUCED, part.split, count, text, tuple(part.files[:4]))


def has_label(file: str, label: int) -> bool:
    """Returns whether a number is on a label map."""
    labels = open_map(file).labels
    return labels is not None and bool(labels[label])


def check_map_sizes(
    part: Part, maps: dict[str, Opened], images: dict[str, Opened]
) -> Iterator[Finding]:
    """Yields label maps of another size than their images."""
    turns = loader_turns(part.cfg)
    files = []
    for file, label_map in zip(part.files, part.maps):
        image, opened = images.get(file), maps.get(label_map)
        if image is None or opened is None or image.problem or opened.problem:
            continue
        size = image.size[::-1] if image.turned and turns else image.size
        if opened.size != size:
            files.append((file, label_map, size))
    if files:
        file, label_map, size = files[0]
        width, height = maps[label_map].size
        text = (
            f'{label_map} is {height}x{width} pixels (height x width), its image {size[1]}x'
            f'{size[0]}'
        )
        shown = tuple(file for file, *_ in files[:SHOWN_FILES])
        yield Finding('error', 'label maps of another size', part.split, len(files), text, shown)


def open_few(part: Part) -> dict[str, Opened]:
    """Opens some label maps from all over a part."""
    chosen = np.linspace(0, len(part.maps) - 1, min(FEW_MAPS, len(part.maps))).astype(int)
    return {part.maps[i]: open_map(part.maps[i]) for i in chosen}
