"""Pascal VOC: an XML file an image."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

from scopevit.errors import InputError
from scopevit.own_data.files import find_files, image_at, images_by_name, progress, read_size
from scopevit.own_data.objects import check_finite
from scopevit.own_data.samples import OwnData, OwnImage
from scopevit.own_data.split import folder_split

CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def find_voc(root: Path) -> list[Path]:
    """Returns the XML files below a folder that are VOC's."""
    paths = [root / name for name in find_files(root, ['.xml'])]
    return [path for path in paths if b'<annotation' in path.read_bytes()[:2000]]


def read_voc(root: Path, files: list[Path]) -> OwnData:
    """Reads annotations of VOC; splits are those of `ImageSets/Main`, where it is there.

    Objects that are marked difficult count neither for nor against a detector, as COCO's crowds.

    Raises:
        InputError: If a file is broken or its image is not there.
    """
    by_name, splits = images_by_name(root), image_sets(root)
    by_stem = {Path(name).stem: name for name in by_name}
    images, names = [], []
    for path in progress(files, 'annotations'):
        tree = parse(path)
        name = (tree.findtext('filename') or '').strip() or path.stem
        if name.rsplit('/', 1)[-1] not in by_name:
            # Renamed images keep their stem in common with the annotation.
            name = by_stem.get(path.stem, name)
        file = image_at(root, by_name, name, [path.parent.name])
        image = OwnImage(file, read_size(root / file), splits.get(path.stem))
        image.split = image.split or folder_split(path.parent.name)
        for item in tree.iter('object'):
            found = read_object(path, item)
            names.append(found['category'])
            image.objects.append(found)
        images.append(image)
    twice = [file for file, n in Counter(image.file for image in images).items() if n > 1]
    if twice:
        raise InputError(f'{root}: two annotations are of {twice[0]}')
    classes = sorted(set(names))
    for image in images:
        for found in image.objects:
            found['category'] = classes.index(found['category'])
    data = OwnData(root, 'Pascal VOC', classes, images)
    left = len(find_files(root, ['.xml'])) - len(files)
    if left:
        data.notes.append(f'{left} XML files without <annotation> are left out')
    return data


def parse(path: Path) -> ElementTree.Element:
    """Returns the content of an XML file."""
    try:
        return ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        raise InputError(f'cannot read {path} as XML: {error}') from error


def read_object(path: Path, item: ElementTree.Element) -> dict[str, Any]:
    """Returns an object, its class by name."""
    name = (item.findtext('name') or '').strip()
    if not name:
        raise InputError(f'{path}: an object has no name')
    texts = [item.findtext(f'bndbox/{corner}') for corner in CORNERS]
    try:
        x1, y1, x2, y2 = (float(text or 'nothing') for text in texts)
    except ValueError as error:
        raise InputError(f'{path}: {name} has no bndbox of {", ".join(CORNERS)}') from error
    check_finite([x1, y1, x2, y2], 4, f'{path}: {name}', 'bndbox')
    difficult = (item.findtext('difficult') or '0').strip() == '1'
    return dict(category=name, bbox=[x1, y1, x2 - x1, y2 - y1], iscrowd=difficult)


def image_sets(root: Path) -> dict[str, str]:
    """Returns the splits of images, by their stems."""
    found = {}
    for name in find_files(root, ['train.txt', 'val.txt', 'test.txt']):
        path = root / name
        if path.parent.name == 'Main' and folder_split(path.stem):
            for line in path.read_text().split('\n'):
                if line.strip():
                    found[line.split()[0]] = path.stem
    return found
