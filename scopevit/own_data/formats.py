"""Which format own data have."""

from collections.abc import Sequence
from pathlib import Path

from scopevit.errors import InputError
from scopevit.own_data.coco import find_coco, is_coco, read_coco
from scopevit.own_data.files import find_files
from scopevit.own_data.folders import read_folders
from scopevit.own_data.label_maps import draw_objects, find_maps, read_label_maps
from scopevit.own_data.labelme import find_labelme, read_labelme
from scopevit.own_data.samples import OwnData
from scopevit.own_data.voc import find_voc, read_voc
from scopevit.own_data.yolo import find_yolo, read_yolo


def read_data(task: str, source: Path) -> OwnData:
    """Reads the data of a task in the format that they have.

    Raises:
        InputError: If there is none that the task takes, or more than one.
    """
    if task == 'classification':
        if not source.is_dir():
            raise InputError(f'classification takes a folder of images, not {source}')
        return read_folders(source)
    data = read_file(task, source) if source.is_file() else read_folder(task, source)
    if task == 'segmentation' and not any(image.label_map for image in data.images):
        draw_objects(data)
    return data


def read_file(task: str, source: Path) -> OwnData:
    """Reads the data that a file describes."""
    if source.suffix.lower() in ('.yaml', '.yml'):
        return read_yolo(source, task)
    if source.suffix.lower() == '.json' and is_coco(source):
        return read_coco(image_root(source), [source], task)
    raise InputError(f'{source} is neither a COCO file nor a data.yaml')


def image_root(source: Path) -> Path:
    """Returns the folder in which the images of an annotation file are."""
    folder = source.parent
    return folder if find_files(folder) else folder.parent


def read_folder(task: str, source: Path) -> OwnData:
    """Reads a folder in the one format that it has."""
    coco, yolo = find_coco(source), find_yolo(source)
    labelme = [] if coco else find_labelme(source)
    found: dict[str, Sequence[str | Path]] = {'COCO': coco, 'YOLO': yolo, 'LabelMe': labelme}
    if task == 'detection':
        found['Pascal VOC'] = find_voc(source)
    if task == 'segmentation' and not (coco or yolo or labelme):
        found['label maps'] = find_maps(source)
    there = {name: paths for name, paths in found.items() if paths}
    if len(there) > 1 or len(yolo) > 1:
        files = ', '.join(f'{name} ({Path(paths[0]).name})' for name, paths in there.items())
        raise InputError(
            f'{source} has annotations of several kinds: {files}; give the file itself'
        )
    if coco:
        return read_coco(source, coco, task)
    if yolo:
        return read_yolo(yolo[0], task)
    if labelme:
        return read_labelme(source, labelme, task)
    if 'Pascal VOC' in there:
        return read_voc(source, find_voc(source))
    if there:
        return read_label_maps(source)
    raise InputError(f'{source} has no annotations that {task} takes (docs/own_data.md)')
