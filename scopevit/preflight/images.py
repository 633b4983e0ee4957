"""What image files say against their annotations, and against each other."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scopevit.engine.walk import type_name
from scopevit.own_data.files import SUFFIXES
from scopevit.preflight.files import Opened, digest_array, missing_files
from scopevit.preflight.findings import Finding, Level
from scopevit.preflight.samples import SHOWN_FILES, Part

SMALL = 32  # pixels of the short side, the coarsest stride
LARGE = 40_000_000  # pixels in all
DIFFERENT = 4  # times as long a long side as another's
PROBLEMS = {
    'missing': ('missing images', 'is not there'),
    'unreadable': ('unreadable images', 'cannot be read'),
    'truncated': ('truncated images', 'is damaged'),
    'too large': ('images too large', 'is too large to be opened'),
}


def check_missing(part: Part) -> Iterator[Finding]:
    """Yields images that are not there, without opening any."""
    if not reads_files(part.cfg):
        return
    for files, what in ((part.files, 'missing images'), (part.maps, 'missing label maps')):
        local = [file for file in files if file and '://' not in file]
        lost = list(missing_files(dict.fromkeys(local)))
        if lost:
            text = f'{lost[0]} is not there ({part.key})'
            yield listed('error', what, part, lost, text)


def reads_files(cfg: dict[str, Any]) -> bool:
    """Returns whether a data set reads local files, all of which must be there."""
    steps = [step for step in cfg.get('pipeline') or [] if 'type' in step]
    loading = [step for step in steps if type_name(step) in ('LoadImageFromFile', 'LoadImage')]
    settings = [cfg, *loading]
    backends = [(item.get('backend_args') or {}).get('backend', 'local') for item in settings]
    lenient = any(step.get('ignore_empty') for step in loading)
    return bool(loading or not steps) and set(backends) == {'local'} and not lenient


def check_opened(part: Part, opened: dict[str, Opened]) -> Iterator[Finding]:
    """Yields images that are broken, or of another size than annotated."""
    for problem, (what, said) in PROBLEMS.items():
        files = [f for f in dict.fromkeys(part.files) if f and opened[f].problem == problem]
        if files and problem != 'missing':  # told before
            text = f'{files[0]} {said}: {opened[files[0]].said}'
            yield Finding('error', what, part.split, len(files), text, tuple(files[:SHOWN_FILES]))
    yield from check_sizes(part, opened)


def check_sizes(part: Part, opened: dict[str, Opened]) -> Iterator[Finding]:
    """Yields images that EXIF turns, and those of another size than annotated."""
    turns = loader_turns(part.cfg)
    turned: list[str] = []
    against: list[str] = []
    differ: dict[str, str] = {}  # what is said of each
    for file, size in zip(part.files, part.sizes):
        image = opened.get(file)
        if image is None or image.problem:
            continue
        annotated = tuple(size.astype(int).tolist())
        loaded = image.size[::-1] if image.turned and turns else image.size
        if annotated not in ((0, 0), loaded):
            if annotated == loaded[::-1] and image.turned:
                against.append(file)
            else:
                differ[file] = (
                    f'{file} has {loaded[0]}x{loaded[1]} pixels, but {part.ann_file} says '
                    f'{annotated[0]}x{annotated[1]}'
                )
        elif image.orientation not in (0, 1):
            turned.append(file)
    if against:
        image = opened[against[0]]
        how = 'is turned by its EXIF when it is loaded' if turns else 'is loaded as it is stored'
        text = (
            f'{against[0]} {how}, but annotated the other way: save it upright, without EXIF, '
            'before annotating'
        )
        yield listed('error', 'annotated against EXIF', part, against, text)
    if differ:
        text = next(iter(differ.values()))
        yield listed('error', 'size differs from annotated', part, list(differ), text)
    if turned:
        how = 'turns' if turns else 'does not turn'
        text = f'{turned[0]} has an EXIF orientation; the pipeline {how} it: look at the picture'
        yield listed('note', 'turned by EXIF', part, turned, text)


def listed(level: Level, what: str, part: Part, files: list[str], text: str) -> Finding:
    """Returns a finding about some images."""
    return Finding(level, what, part.split, len(files), text, tuple(files[:SHOWN_FILES]))


def loader(cfg: dict[str, Any]) -> tuple[str, str]:
    """Returns `color_type` and `imdecode_backend`, as mmcv has them, of a pipeline."""
    for step in cfg.get('pipeline') or []:
        if type_name(step).startswith('LoadImage'):
            return step.get('color_type', 'color'), step.get('imdecode_backend') or 'cv2'
    return 'color', 'cv2'


def loader_turns(cfg: dict[str, Any]) -> bool:
    """Returns whether a pipeline turns images as their EXIF says.

    OpenCV and Pillow do in mmcv, but for `unchanged` and what ends in `ignore_orientation`.
    """
    flag, backend = loader(cfg)
    return backend in ('cv2', 'pillow') and not flag.endswith(('unchanged', 'ignore_orientation'))


def check_sizes_alike(parts: list[Part], opened: dict[str, Opened]) -> Iterator[Finding]:
    """Yields images that are small, large, or very different, of each split."""
    for split in dict.fromkeys(part.split for part in parts):
        files = list(dict.fromkeys(f for p in parts if p.split == split for f in p.files if f))
        files = [file for file in files if file in opened and not opened[file].problem]
        if not files:
            continue
        sizes = np.array([opened[file].size for file in files])
        for chosen, what, told in (
            (sizes.min(1) < SMALL, 'small images', f'less than {SMALL} wide or high'),
            (sizes.prod(1) > LARGE, 'large images', f'more than {LARGE:,}'),
        ):
            if chosen.any():
                i = int(chosen.argmax())
                text = f'{files[i]} has {sizes[i][0]}x{sizes[i][1]} pixels, {told}'
                yield Finding('note', what, split, int(chosen.sum()), text)
        sides = sizes.max(1)
        if sides.max() > DIFFERENT * sides.min():
            low, high = int(sides.argmin()), int(sides.argmax())
            text = (
                f'{files[low]} has {sizes[low][0]}x{sizes[low][1]} pixels, {files[high]} '
                f'{sizes[high][0]}x{sizes[high][1]}'
            )
            yield Finding('note', 'sizes differ', split, len(np.unique(sizes, axis=0)), text)


def check_copies(parts: list[Part], opened: dict[str, Opened]) -> Iterator[Finding]:
    """Yields images that are in two splits, or twice in training, by their pixels."""
    places: dict[str, dict[bytes, list[str]]] = defaultdict(lambda: defaultdict(list))
    for part in parts:
        found = {file: opened[file].digest for file in part.files if file in opened}
        if part.arrays and not any(part.files):
            found = {f'sample {i}': digest_array(pixels) for i, pixels in enumerate(part.arrays)}
        for name, digest in found.items():
            if digest:
                places[part.split][digest].append(name)
    train = places.get('train', {})
    repeated = [files for files in train.values() if len(files) > 1]
    if repeated:
        text = f'{repeated[0][0]} and {repeated[0][1]} are the same image'
        yield Finding('note', 'copies in train', 'train', len(repeated), text)
    for split in ('val', 'test'):
        if same_annotations(parts, split):
            continue  # told by `check_same_annotations`
        shared = [(train[d][0], files[0]) for d, files in places[split].items() if d in train]
        if shared:
            text = f'{shared[0][0]} (train) and {shared[0][1]} ({split}) are the same image'
            files = tuple(file for _, file in shared[:SHOWN_FILES])
            where = f'train, {split}'
            yield Finding('warning', 'images of train again', where, len(shared), text, files)


def same_annotations(parts: list[Part], split: str) -> bool:
    """Returns whether a split has the very images of training, as to try whether it overfits."""
    named = {s: [f for p in parts if p.split == s for f in p.files] for s in ('train', split)}
    files = named['train']
    return bool(files) and any(files) and files == named[split]


def check_same_annotations(parts: list[Part]) -> Iterator[Finding]:
    """Yields splits that are the training's own images."""
    for split in ('val', 'test'):
        if same_annotations(parts, split):
            part = next(part for part in parts if part.split == split)
            text = (
                f'{part.key} has the images of train_dataloader.dataset: its metric proves nothing'
            )
            count = sum(len(p.files) for p in parts if p.split == split)
            yield Finding('warning', 'split is train itself', split, count, text)


def check_unnamed(parts: list[Part]) -> Iterator[Finding]:
    """Yields images in the folders of the data that no split names."""
    named = {Path(file) for part in parts for file in (*part.files, *part.maps) if file}
    folders: dict[Path, str] = {}
    for part in parts:
        if part.ann_file:
            for file in part.files:
                folders.setdefault(Path(file).parent, part.split)
    for split in dict.fromkeys(folders.values()):
        found = sorted(
            path
            for folder, owner in folders.items()
            if owner == split and folder.is_dir()
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES and path not in named
        )
        if found:
            text = f'{found[0]} is in no annotation file'
            yield Finding('note', 'images nobody names', split, len(found), text)
