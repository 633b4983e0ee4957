"""COCO: JSON files of boxes, masks and keypoints."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from scopevit.engine.checks.masks import of_runs
from scopevit.errors import InputError
from scopevit.own_data.files import (
    find_files,
    image_at,
    images_by_name,
    is_turned,
    progress,
    read_size,
)
from scopevit.own_data.objects import check_finite, check_near, is_number, polygon_box
from scopevit.own_data.samples import OwnData, OwnImage, Skeleton
from scopevit.own_data.split import split_of

KEYS = ('images', 'annotations', 'categories')


def find_coco(root: Path) -> list[Path]:
    """Returns the files below a folder that are COCO's with annotations."""
    return [path for path in (root / name for name in find_files(root, ['.json'])) if is_coco(path)]


def is_coco(path: Path) -> bool:
    """Returns whether a JSON file has the keys of COCO."""
    content = read_json(path)
    return isinstance(content, dict) and all(isinstance(content.get(k), list) for k in KEYS)


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
        InputError: If it is none.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f'cannot read {path} as JSON: {error}') from error


def read_coco(root: Path, files: list[Path], task: str) -> OwnData:
    """Reads COCO files, one of them, or one a split.

    Args:
        root: Folder with the images.
        files: All JSON files that are meant; those of another kind of annotation are left out.
        task: Decides the kind.

    Raises:
        InputError: If annotations contradict each other or the images.
    """
    contents = {path: read_json(path) for path in files}
    contents = right_kind(contents, task)
    splits = file_splits(root, list(contents))
    data = OwnData(root, f'COCO ({", ".join(path.name for path in contents)})', [], [])
    categories = {path: read_categories(path, content) for path, content in contents.items()}
    classes = list(dict.fromkeys(n for names in categories.values() for n in names.values()))
    orders = [list(names.values()) for names in categories.values()]
    if any(sorted(order) != sorted(classes) for order in orders):
        names = '; '.join(f'{p.name}: {", ".join(n.values())}' for p, n in categories.items())
        raise InputError(f'{root}: files have different categories: {names}')
    if len({tuple(names.items()) for names in categories.values()}) > 1:
        data.notes.append('the files number the classes differently; they are matched by name')
    data.classes = classes
    if task == 'pose':
        data.skeleton = read_skeleton(contents)
    by_name = images_by_name(root)
    for path, content in contents.items():
        indices = {key: classes.index(name) for key, name in categories[path].items()}
        hints = [path.parent.name, splits[path] or '']
        found = read_images(root, path, content, by_name, hints)
        read_annotations(path, content, found, indices, data.skeleton)
        for image in found.values():
            image.split = splits[path]
        data.images += found.values()
    repeated = [f for f, n in Counter(image.file for image in data.images).items() if n > 1]
    if repeated:
        raise InputError(f'{root}: {repeated[0]} is annotated twice, as in training and validation')
    return data


def right_kind(contents: dict[Path, Any], task: str) -> dict[Path, Any]:
    """Leaves out files of another kind, where some files have keypoints and others none."""
    with_points = {
        path: any('keypoints' in a for a in content['annotations'] if isinstance(a, dict))
        for path, content in contents.items()
    }
    wanted = task == 'pose'
    if wanted and not any(with_points.values()):
        raise InputError(f'{next(iter(contents))} has no keypoints, which pose takes')
    if len(set(with_points.values())) == 1:
        return contents
    return {path: content for path, content in contents.items() if with_points[path] == wanted}


def file_splits(root: Path, files: list[Path]) -> dict[Path, str | None]:
    """Returns the splits that files stand for, by their names or else their folders'."""
    if len(files) == 1:
        return {files[0]: None}
    splits = {path: split_of(path.stem) or split_of(path.parent.name) for path in files}
    names = ', '.join(str(path.relative_to(root)) for path in files)
    if None in splits.values() or len(set(splits.values())) < len(splits):
        raise InputError(
            f'{root} has {len(files)} COCO files ({names}); give the one that counts, or call them '
            'by train, val and test'
        )
    return splits


def read_categories(path: Path, content: dict[str, Any]) -> dict[Any, str]:
    """Returns the names of categories by id, in the order of their ids."""
    for key in KEYS:
        wrong = [item for item in content[key] if not isinstance(item, dict) or 'id' not in item]
        if wrong:
            raise InputError(f'{path}: one of {key} has no id: {wrong[0]!r:.60}')
        check_scalars(path, key, content[key])
        twice = [i for i, n in Counter(item['id'] for item in content[key]).items() if n > 1]
        if twice:
            raise InputError(f'{path}: id {twice[0]} is there twice among {key}')
    found = {c['id']: str(c.get('name', c['id'])) for c in content['categories']}
    twice = [name for name, n in Counter(found.values()).items() if n > 1]
    if twice:
        raise InputError(f'{path}: two categories are called {twice[0]}')
    if not found:
        raise InputError(f'{path} has no categories')
    return dict(sorted(found.items(), key=lambda item: (str(type(item[0])), item[0])))


def check_scalars(path: Path, key: str, items: list[dict[str, Any]]) -> None:
    """Raises an InputError unless what names images and categories are numbers or texts."""
    for item in items:
        for name in ('id', 'image_id', 'category_id'):
            if isinstance(item.get(name), (list, dict)):
                raise InputError(
                    f'{path}: {name} of one of {key} must be a number, not {item[name]!r:.60}'
                )


def read_images(
    root: Path, path: Path, content: dict[str, Any], by_name: dict[str, list[str]], hints: list[str]
) -> dict[Any, OwnImage]:
    """Returns the images of a COCO file by id."""
    found = {}
    for item in progress(content['images'], 'images'):
        if not isinstance(item.get('file_name'), str):
            raise InputError(f'{path}: image {item["id"]} has no file_name')
        file = image_at(root, by_name, item['file_name'], hints)
        size = read_size(root / file)
        given = (item.get('width', size[0]), item.get('height', size[1]))
        if given != size:
            raise InputError(
                f'{root / file} has {size[0]}x{size[1]} pixels, but {path.name} says '
                f'{given[0]!r}x{given[1]!r}'
                + (exif_advice(root / file) if given == size[::-1] else '')
            )
        found[item['id']] = OwnImage(file, size)
    return found


def exif_advice(path: Path) -> str:
    """Says what to do where the EXIF of an image is why its width and height changed places."""
    if not is_turned(path):
        return ''
    return (
        ': its EXIF turns it, and it is loaded so; where the annotations fit the image as it is '
        'stored, remove the orientation from its EXIF, otherwise exchange width and height'
    )


def read_annotations(
    path: Path,
    content: dict[str, Any],
    images: dict[Any, OwnImage],
    indices: dict[Any, int],
    skeleton: Skeleton | None,
) -> None:
    """Adds the annotations of a COCO file to its images."""
    for item in content['annotations']:
        where = f'{path}: annotation {item["id"]}'
        image, category = images.get(item.get('image_id')), indices.get(item.get('category_id'))
        if image is None:
            raise InputError(f'{where}: image_id {item.get("image_id")} is none of the images')
        if category is None:
            raise InputError(f'{where}: category_id {item.get("category_id")} is no category')
        found: dict[str, Any] = dict(category=category, iscrowd=bool(item.get('iscrowd')))
        if skeleton is not None:
            count = 3 * len(skeleton.names)
            if not item.get('keypoints'):
                continue
            found['keypoints'] = check_finite(item['keypoints'], count, where, 'keypoints')
        segmentation = item.get('segmentation')
        if isinstance(segmentation, list):
            segmentation = read_polygons(segmentation, image.size, where)
        elif isinstance(segmentation, dict):
            check_rle(segmentation, image.size, where)
        elif segmentation is not None:
            raise InputError(
                f'{where}: segmentation must be polygons or a run-length code, not '
                f'{segmentation!r:.60}'
            )
        if segmentation:
            found['segmentation'] = segmentation
        box = item.get('bbox')
        if box is None and isinstance(segmentation, list) and segmentation:
            box = polygon_box(segmentation)
        found['bbox'] = check_finite(box, 4, where, 'bbox')
        if is_number(item.get('area')):
            found['area'] = item['area']
        image.objects.append(found)


def read_polygons(polygons: list[Any], size: tuple[int, int], where: str) -> list[list[float]]:
    """Returns the polygons of an object, checked against the size of its image."""
    read = [check_finite(polygon, None, where, 'segmentation') for polygon in polygons]
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in read):
        raise InputError(f'{where}: a polygon takes x, y of three points or more')
    check_near(read, size, where)
    return read


def check_rle(code: dict[str, Any], size: tuple[int, int], where: str) -> None:
    """Checks a run-length code against the size, width and height, of its image."""
    problem = of_runs(code, (size[1], size[0]))
    if problem:
        raise InputError(f'{where}: {problem}')


def read_skeleton(contents: dict[Path, Any]) -> Skeleton:
    """Returns the keypoints of the categories that are annotated with any.

    Raises:
        InputError: If there are none, or they differ.
    """
    found = {}
    for path, content in contents.items():
        used = {a.get('category_id') for a in content['annotations'] if a.get('keypoints')}
        points = [a['keypoints'] for a in content['annotations'] if a.get('keypoints')]
        lengths = {len(one) for one in points if isinstance(one, list)}
        for category in content['categories']:
            if category['id'] not in used:
                continue
            count = max(lengths, default=0) // 3
            names = category.get('keypoints') or [f'point_{i}' for i in range(count)]
            links = category.get('skeleton') or []
            for key, value in (('keypoints', names), ('skeleton', links)):
                if not isinstance(value, list):
                    raise InputError(
                        f'{path}: {key} of a category must be a list, not {value!r:.60}'
                    )
            found[tuple(map(str, names))] = (path, links)
    if not found:
        raise InputError(f'{next(iter(contents))}: no annotation has keypoints')
    if len(found) > 1:
        raise InputError(
            f'{", ".join(map(str, contents))}: keypoints differ between categories or files: '
            + '; '.join(', '.join(names) for names in found)
        )
    (names, (path, links)), *_ = found.items()
    bad = [link for link in links if not is_link(link, len(names))]
    if bad:
        raise InputError(f'{path}: skeleton has {bad[0]!r:.60}; links go from 1 to {len(names)}')
    if len(set(names)) < len(names):
        raise InputError(f'{path}: two keypoints have one name: {", ".join(names)}')
    return Skeleton(list(names), [(a - 1, b - 1) for a, b in links])


def is_link(value: Any, count: int) -> bool:
    """Whether a value is a pair of numbers from 1 to another."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(i) is int and 1 <= i <= count for i in value)
    )
