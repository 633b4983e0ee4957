"""Which format own data have."""

from pathlib import Path

from scopevit.errors import InputError
from scopevit.own_data.coco import find_coco, is_coco, read_coco
from scopevit.own_data.files import find_files
from scopevit.own_data.folders import read_folders
from scopevit.own_data.samples import OwnData


def read_data(task: str, source: Path) -> OwnData:
    """Reads the data of a task in the format that they have.

    Raises:
        InputError: If there is none that the task takes, or more than one.
    """
    if task == 'classification':
        if not source.is_dir():
            raise InputError(f'classification takes a folder of images, not {source}')
        return read_folders(source)
    if source.is_file():
        return read_file(task, source)
    return read_folder(task, source)


def read_file(task: str, source: Path) -> OwnData:
    """Reads the data that a file describes."""
    if source.suffix.lower() == '.json' and is_coco(source):
        return read_coco(image_root(source), [source], task)
    raise InputError(f'{source} is no COCO file')


def image_root(source: Path) -> Path:
    """Returns the folder in which the images of an annotation file are."""
    folder = source.parent
    return folder if find_files(folder) else folder.parent


def read_folder(task: str, source: Path) -> OwnData:
    """Reads a folder in the one format that it has."""
    coco = find_coco(source)
    if coco:
        return read_coco(source, coco, task)
    raise InputError(f'{source} has no annotations that {task} takes')
