"""YOLO: `data.yaml`, and a text file an image with boxes, segments or keypoints."""

from pathlib import Path
from typing import Any

import yaml

from scopevit.errors import InputError
from scopevit.own_data.files import find_files, is_there, progress, read_size
from scopevit.own_data.objects import check_finite, polygon_box
from scopevit.own_data.samples import OwnData, OwnImage, Skeleton

SPLITS = ('train', 'val', 'test')
ROUNDING = 1e-3  # how far from 0 to 1 numbers may be that were rounded


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns the content of a `data.yaml`.

    Raises:
        InputError: If it is none.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f'cannot read {path} as YAML: {error}') from error
    if not isinstance(content, dict) or 'names' not in content:
        raise InputError(f'{path} has no names; those of the classes are meant')
    return content


def find_yolo(root: Path) -> list[Path]:
    """Returns the YAML files right in a folder that describe data of YOLO."""
    paths = [path for path in sorted(root.iterdir()) if path.suffix in ('.yaml', '.yml')]
    paths = [path for path in paths if path.is_file()]
    return [path for path in paths if 'names:' in path.read_text(errors='replace')]


def read_yolo(path: Path, task: str) -> OwnData:
    """Reads what a `data.yaml` describes.

    Raises:
        InputError: If a label does not fit it.
    """
    content = read_yaml(path)
    classes = read_names(path, content)
    root = data_folder(path, content)
    skeleton = read_skeleton(path, content) if task == 'pose' else None
    data = OwnData(root, f'YOLO ({path.name})', classes, [], skeleton)
    check_class_files(path, root, classes)
    points = read_shape(path, content)
    for split in SPLITS:
        for file in progress(split_files(path, root, content.get(split)), 'images'):
            image = OwnImage(file.relative_to(root).as_posix(), read_size(file), split)
            read_labels(label_file(file), image, len(classes), points)
            data.images.append(image)
    if not data.images:
        raise InputError(f'{path}: no images in what train and val name')
    files = [image.file for image in data.images]
    if len(set(files)) < len(files):
        # Many have one folder for train and val.
        data.images = list({image.file: image for image in data.images}.values())
        for image in data.images:
            image.split = None
        data.notes.append('train and val name the same images, so new ones are drawn to validate')
    return data


def read_names(path: Path, content: dict[str, Any]) -> list[str]:
    """Returns the names of the classes, checked against their number."""
    names = content['names']
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise InputError(f'{path}: names must be numbered from 0 on, not {list(names)!r:.60}')
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(f'{path}: names must be a list of classes, not {names!r:.60}')
    if content.get('nc', len(names)) != len(names):
        raise InputError(f'{path}: nc is {content["nc"]}, but there are {len(names)} names')
    names = [str(name) for name in names]
    if len(set(names)) < len(names):
        raise InputError(f'{path}: two classes have one name: {", ".join(names)}')
    return names


def data_folder(path: Path, content: dict[str, Any]) -> Path:
    """Returns the folder that the splits are in; `path` of others' machines is left aside."""
    folder = path.parent / str(content.get('path') or '.')
    return folder.resolve() if is_there(folder) and folder.is_dir() else path.parent


def check_class_files(path: Path, root: Path, classes: list[str]) -> None:
    """Checks the names beside the labels, which tools for labelling write."""
    for name in find_files(root, ['classes.txt']):
        lines = (root / name).read_text(encoding='utf-8').split('\n')
        names = [line.strip() for line in lines if line.strip()]
        if names != classes:
            raise InputError(
                f'{root / name} has the classes {", ".join(names)}, {path.name} '
                f'{", ".join(classes)}: the order is what labels mean'
            )


def read_shape(path: Path, content: dict[str, Any]) -> tuple[int, int] | None:
    """Returns the number of keypoints and of their values, 2 or 3; None without keypoints."""
    shape = content.get('kpt_shape')
    if shape is None:
        return None
    valid = isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) for n in shape)
    if not valid or shape[0] < 1 or shape[1] not in (2, 3):
        raise InputError(f'{path}: kpt_shape must be [keypoints, 2 or 3], not {shape}')
    return shape[0], shape[1]


def read_skeleton(path: Path, content: dict[str, Any]) -> Skeleton:
    """Returns the keypoints of a `data.yaml`."""
    shape = read_shape(path, content)
    if shape is None:
        raise InputError(f'{path} has no kpt_shape, which pose takes')
    names = content.get('kpt_names') or [f'point_{i}' for i in range(shape[0])]
    if isinstance(names, dict):  # those of each class
        names = next(iter(names.values()))
    flip = content.get('flip_idx')
    if (
        not isinstance(names, list)
        or len(names) != shape[0]
        or (flip and not is_permutation(flip, shape[0]))
    ):
        raise InputError(f'{path}: kpt_names and flip_idx must have one of each {shape[0]} points')
    pairs = [(i, j) for i, j in enumerate(flip) if i < j] if flip else None
    return Skeleton([str(name) for name in names], pairs=pairs)


def is_permutation(value: Any, count: int) -> bool:
    """Whether a value is a list of the numbers below another, in any order."""
    return (
        isinstance(value, list)
        and set(map(type, value)) == {int}
        and sorted(value) == list(range(count))
    )


def split_files(path: Path, root: Path, value: Any) -> list[Path]:
    """Returns the images of a split: of folders, or of lists in text files."""
    files: list[Path] = []
    for name in value if isinstance(value, list) else [value] if value else []:
        # Some exports name folders from a place that is not theirs.
        known = [root / str(name), root / str(name).removeprefix('../')]
        place = next((p.resolve() for p in known if is_there(p)), None)
        if place is None:
            raise InputError(f'{path}: no such folder or list: {name}')
        if place.is_dir():
            files += [place / file for file in find_files(place)]
        else:
            lines = place.read_text(encoding='utf-8').splitlines()
            files += [(root / line.strip()).resolve() for line in lines if line.strip()]
    outside = [file for file in files if not file.is_relative_to(root)]
    if outside:
        raise InputError(f'{path}: {outside[0]} is not below {root}; set path to a folder above')
    return files


def label_file(image: Path) -> Path:
    """Returns the labels of an image: the last folder `images` in its path is `labels` there."""
    parts = list(image.with_suffix('.txt').parts)
    if 'images' in parts:
        parts[len(parts) - 1 - parts[::-1].index('images')] = 'labels'
    return Path(*parts)


def read_labels(path: Path, image: OwnImage, classes: int, points: tuple[int, int] | None) -> None:
    """Adds the objects of a label file, if there is one, to its image.

    Raises:
        InputError: If a line does not fit `data.yaml`.
    """
    if not path.is_file():
        return  # nothing to see there
    for row, line in enumerate(path.read_text(errors='replace').splitlines(), 1):
        if not line.strip():
            continue
        where = f'{path}, line {row}'
        try:
            numbers = [float(word) for word in line.split()]
        except ValueError as error:
            raise InputError(f'{where}: numbers are meant, not {line!r:.60}') from error
        check_finite(numbers, None, where, 'it')
        category, values = int(numbers[0]), numbers[1:]
        if category != numbers[0] or not 0 <= category < classes:
            raise InputError(
                f'{where}: class {numbers[0]:g}, but data.yaml has {classes} names, '
                f'0 to {classes - 1}'
            )
        image.objects.append(dict(category=category, **read_object(where, values, image, points)))


def read_object(
    where: str, values: list[float], image: OwnImage, points: tuple[int, int] | None
) -> dict[str, Any]:
    """Returns a box with its mask or keypoints, in pixels, from relative numbers."""
    width, height = image.size
    count = points[0] * points[1] if points else 0
    is_polygon = not points and len(values) > 5 and len(values) % 2 == 0
    if not is_polygon and len(values) != 4 + count:
        meant = f'a box and {points[0]} keypoints of {points[1]}' if points else 'a box or polygon'
        raise InputError(f'{where}: {len(values) + 1} numbers, where a class, {meant} is meant')
    step = points[1] if points else 2
    spots = values if is_polygon else values[4:]
    pairs = [v for i, v in enumerate(spots) if i % step < 2]
    for v in (*pairs, *(values[:4] if not is_polygon else ())):
        if not -ROUNDING <= v <= 1 + ROUNDING:
            raise InputError(f'{where}: {v:g} is not from 0 to 1; pixels where shares are meant?')
    if is_polygon:
        polygon = [v * (width, height)[i % 2] for i, v in enumerate(values)]
        return dict(bbox=polygon_box([polygon]), segmentation=[polygon])
    x, y, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
    found: dict[str, Any] = dict(bbox=[x - w / 2, y - h / 2, w, h])
    if points:
        found['keypoints'] = []
        for i in range(0, count, step):
            a, b, *seen = spots[i : i + step]
            visible = float(seen[0]) if seen else 2.0 * (a > 0 or b > 0)
            found['keypoints'] += [a * width, b * height, visible]
    return found
