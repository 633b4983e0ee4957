"""Segmentation: images with label maps, PNGs of one number a pixel, or objects to draw as such."""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from scopevit.errors import InputError
from scopevit.own_data.files import find_files, find_images, progress, read_size
from scopevit.own_data.objects import object_area, to_rle
from scopevit.own_data.samples import OwnData, OwnImage
from scopevit.own_data.split import folder_split

MAP_FOLDERS = (
    'annotations', 'gt', 'labels', 'label_maps', 'masks', 'segmentationclass',
    'segmentationclassraw',
)  # fmt: skip
IMAGE_FOLDERS = ('images', 'img', 'imgs', 'jpegimages')
MAP_NAME = re.compile(r'[_-](mask|label|labels|seg|gt)$', re.IGNORECASE)
NAME_FILES = ('classes.txt', 'labels.txt', 'labelmap.txt', 'class_names.txt')
IGNORED = 255
Write = Callable[[Path], object]


def is_map(file: str) -> bool:
    """Returns whether an image is in a folder of label maps."""
    return file.lower().endswith('.png') and bool(
        set(map(str.lower, file.split('/')[:-1])) & set(MAP_FOLDERS)
    )


def find_maps(root: Path) -> list[str]:
    """Returns the label maps below a folder."""
    return [file for file in find_files(root, ['.png']) if is_map(file)]


def key_of(file: str) -> str:
    """Returns what an image's path and that of its map have in common."""
    *folders, name = file.split('/')
    folders = [f for f in folders if f.lower() not in (*MAP_FOLDERS, *IMAGE_FOLDERS)]
    stem = name.rsplit('.', 1)[0]
    return '/'.join([*folders, MAP_NAME.sub('', stem) if is_map(file) else stem])


def read_label_maps(root: Path) -> OwnData:
    """Reads images and label maps of the same name, in folders such as `images` and `masks`.

    Raises:
        InputError: If a map has no image, another size, colours, or labels without a name.
    """
    files = {key_of(file): file for file in find_images(root) if not is_map(file)}
    maps = find_maps(root)
    alone = [file for file in maps if key_of(file) not in files]
    if alone:
        raise InputError(f'{root / alone[0]} has no image of its name ({len(alone)} such maps)')
    data = OwnData(root, 'label maps', [], [])
    for file in progress(maps, 'label maps'):
        image = OwnImage(files[key_of(file)], read_size(root / files[key_of(file)]))
        image.label_map = file
        image.split = next(filter(None, map(folder_split, file.split('/')[:-1])), None)
        labels = read_map(root / file)
        if labels.shape != image.size[::-1]:
            raise InputError(
                f'{root / file} has {labels.shape[1]}x{labels.shape[0]} pixels, its image '
                f'{image.size[0]}x{image.size[1]}'
            )
        image.pixels = count_labels(labels)
        data.images.append(image)
    left = len(files) - len(maps)
    if left:
        data.notes.append(f'{left} images without label map are left out')
    name_labels(data)
    return data


def read_map(path: Path) -> np.ndarray:
    """Returns a label map, (H, W)."""
    try:
        with Image.open(path) as image:
            labels = np.array(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f'cannot read {path}: {error}') from error
    if labels.ndim != 2:
        raise InputError(
            f'{path} has {labels.shape[2]} channels; a label map has one number a pixel'
        )
    if labels.max() > IGNORED:
        raise InputError(f'{path} has label {labels.max()}; those of a map are below {IGNORED}')
    return labels.astype(np.uint8)


def count_labels(labels: np.ndarray) -> dict[int, int]:
    """Returns how many pixels each label has, but for those to ignore."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return {i: int(n) for i, n in enumerate(counts[:IGNORED]) if n} | (
        {IGNORED: int(counts[IGNORED])} if counts[IGNORED] else {}
    )


def name_labels(data: OwnData) -> None:
    """Finds the classes of label maps; black and white ones get labels 0 and 1."""
    labels = set().union(*(image.pixels for image in data.images))
    found = set(labels)
    names = read_names(data.root)
    if found == {0, IGNORED}:
        data.classes = names or ['background', 'foreground']
        data.notes.append('black and white maps: white is written as label 1')
        for image in data.images:
            image.pixels = {bool(i) * 1: n for i, n in image.pixels.items()}
            path = data.root / str(image.label_map)
            image.draw = partial(save_white, path)
    else:
        for image in data.images:
            image.pixels.pop(IGNORED, None)
        found.discard(IGNORED)
        data.classes = names or [f'class_{i}' for i in range(max(found, default=0) + 1)]
    highest = max((i for image in data.images for i in image.pixels), default=0)
    if highest >= len(data.classes):
        file = next(image.label_map for image in data.images if highest in image.pixels)
        raise InputError(
            f'label {highest} in {data.root / str(file)}, but there are {len(data.classes)} '
            f'classes: {", ".join(data.classes)}'
        )
    if len(data.classes) < 2:
        told = ', '.join(map(str, sorted(labels)))
        raise InputError(
            f'{data.root}: all labels are {told}; segmentation takes two classes or more beside '
            f'{IGNORED}, which is ignored'
        )


def read_names(root: Path) -> list[str]:
    """Returns the classes of a text file beside the maps, one a line; none without such a file."""
    for name in NAME_FILES:
        path = root / name
        if path.is_file():
            try:
                lines = path.read_text(encoding='utf-8').splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f'cannot read {path} as text: {error}') from error
            lines = [line.strip() for line in lines if not line.startswith('#')]
            names = [line.split(':')[0] for line in lines if line]
            if len(set(names)) < len(names):
                raise InputError(f'{path}: two classes have one name: {", ".join(names)}')
            return names
    return []


def save_white(source: Path, target: Path) -> None:
    """Writes a black and white map with labels 0 and 1."""
    Image.fromarray((read_map(source) > 0).astype(np.uint8)).save(target)


def draw_objects(data: OwnData) -> None:
    """Gives each image a label map of its objects, smaller ones over larger ones.

    What is on no object is background, label 0.

    Raises:
        InputError: If objects have boxes alone.
    """
    objects = [o for image in data.images for o in image.objects]
    bare = sum(not o.get('segmentation') for o in objects)
    if bare:
        raise InputError(f'{data.root}: {bare} of {len(objects)} objects have no mask to draw')
    others = [name for name in data.classes if name.lower() != 'background']
    labels = {data.classes.index(name): i for i, name in enumerate(others, 1)}
    for image in data.images:
        image.draw = partial(save_objects, image, labels)
        drawn = Counter(labels.get(o['category'], 0) for o in image.objects)
        image.pixels = {0: 1, **drawn}
    data.classes = ['background', *others]


def save_objects(image: OwnImage, labels: dict[int, int], target: Path) -> None:
    """Writes the label map of an image's objects."""
    width, height = image.size
    drawn = np.zeros((height, width), np.uint8)
    for found in sorted(image.objects, key=lambda o: -object_area(o, image.size)):
        inside = coco_mask.decode(to_rle(found['segmentation'], image.size)) > 0
        drawn[inside] = labels.get(found['category'], 0)
    Image.fromarray(drawn).save(target)
