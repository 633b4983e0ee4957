"""LabelMe: a JSON file an image, with rectangles, polygons, circles and points."""

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from scopevit.errors import InputError
from scopevit.own_data.coco import read_json
from scopevit.own_data.files import find_files, image_at, images_by_name, progress, read_size
from scopevit.own_data.objects import check_finite, check_near, polygon_box
from scopevit.own_data.samples import OwnData, OwnImage, Skeleton
from scopevit.own_data.split import folder_split

CORNERS = 36  # of the polygon in a circle's place
POINT = 'point'


def find_labelme(root: Path) -> list[Path]:
    """Returns the JSON files below a folder that are LabelMe's."""
    paths = [root / name for name in find_files(root, ['.json'])]
    return [path for path in paths if b'"shapes"' in path.read_bytes()]


def read_labelme(root: Path, files: list[Path], task: str) -> OwnData:
    """Reads annotations of LabelMe.

    In pose, a rectangle or polygon is an object, and the points with its `group_id` are its
    keypoints, by the name of their label.

    Raises:
        InputError: If a file is broken, its image is not there, or a shape is of another kind.
    """
    by_name = images_by_name(root)
    found: list[tuple[OwnImage, Path, list[dict[str, Any]]]] = []
    for path in progress(files, 'annotations'):
        content = read_json(path)
        shapes = content.get('shapes') if isinstance(content, dict) else None
        if not isinstance(shapes, list):
            raise InputError(f'{path} has no list of shapes')
        name = str(content.get('imagePath') or path.stem).replace('\\', '/').rsplit('/', 1)[-1]
        file = image_at(root, by_name, name, [path.parent.name])
        image = OwnImage(file, read_size(root / file), folder_split(path.parent.name))
        found.append((image, path, [read_shape(path, shape, image.size) for shape in shapes]))
    twice = [f for f, n in Counter(image.file for image, *_ in found).items() if n > 1]
    if twice:
        raise InputError(f'{root}: two annotations are of {twice[0]}')
    shapes = [shape for *_, shapes in found for shape in shapes]
    kinds = [shape for shape in shapes if shape['kind'] != POINT]
    classes = sorted({shape['label'] for shape in kinds})
    data = OwnData(root, 'LabelMe', classes, [image for image, *_ in found])
    if task == 'pose':
        names = sorted({shape['label'] for shape in shapes if shape['kind'] == POINT})
        if not names:
            raise InputError(f'{root} has no points, which pose takes')
        data.skeleton = Skeleton(names)
    elif len(kinds) < len(shapes):
        data.notes.append(f'{len(shapes) - len(kinds)} points are left out')
    for image, path, shapes in found:
        image.objects = [
            dict(shape, category=classes.index(shape['label']))
            for shape in shapes
            if shape['kind'] != POINT
        ]
        if data.skeleton:
            add_points(path, image, shapes, data.skeleton)
    return data


def read_shape(path: Path, shape: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Returns a shape on an image with its box, and its outline unless it is a rectangle."""
    if not isinstance(shape, dict):
        raise InputError(f'{path}: a shape must have label and points, not {shape!r:.60}')
    where, kind = f'{path}: {shape.get("label")!r:.60}', shape.get('shape_type') or 'polygon'
    given = shape.get('points') or []
    if not isinstance(given, list):
        raise InputError(f'{where}: points must be a list, not {given!r:.60}')
    points = [check_finite(point, 2, where, 'a point') for point in given]
    least = {POINT: 1, 'rectangle': 2, 'circle': 2, 'polygon': 3}
    if not isinstance(kind, str) or kind not in least:
        raise InputError(f'{where} is a {kind}; {", ".join(least)} are read')
    if not shape.get('label') or len(points) < least[kind]:
        raise InputError(f'{where}: a {kind} takes a label and {least[kind]} points or more')
    found = dict(label=str(shape['label']), kind=kind, group=shape.get('group_id'), points=points)
    if kind == 'circle':
        (x, y), edge = points[0], points[1]
        radius = math.dist((x, y), edge)
        angles = [2 * math.pi * i / CORNERS for i in range(CORNERS)]
        points = [[x + radius * math.cos(a), y + radius * math.sin(a)] for a in angles]
    outline = [v for point in points for v in point]
    check_near([outline], size, where)
    found['bbox'] = polygon_box([outline])
    if kind in ('circle', 'polygon'):
        found['segmentation'] = [outline]
    return found


def add_points(
    path: Path, image: OwnImage, shapes: list[dict[str, Any]], skeleton: Skeleton
) -> None:
    """Gives the objects of an image the points of their group; a single object has all."""
    groups: dict[Any, dict[str, list[float]]] = defaultdict(dict)
    several = len(image.objects) > 1
    for shape in shapes:
        if shape['kind'] == POINT:
            group = shape['group'] if several else None
            if shape['label'] in groups[group]:
                raise InputError(f'{path}: two points {shape["label"]} in group {group}')
            groups[group][shape['label']] = [*shape['points'][0], 2.0]
    for found in image.objects:
        # Of several objects, those without a group have no points.
        alone = several and found['group'] is None
        points = {} if alone else groups.pop(found['group'] if several else None, {})
        keypoints = [points.get(name, [0.0, 0.0, 0.0]) for name in skeleton.names]
        found['keypoints'] = [v for point in keypoints for v in point]
    if groups:
        raise InputError(
            f'{path}: points of group {next(iter(groups))} belong to no rectangle or polygon; give '
            'both one group_id'
        )
