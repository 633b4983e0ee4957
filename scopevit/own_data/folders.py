"""Classification: a folder of images a class, in folders of train, val and test or without."""

from pathlib import Path

from scopevit.errors import InputError
from scopevit.own_data.files import find_images, read_sizes
from scopevit.own_data.label_maps import IMAGE_FOLDERS, MAP_FOLDERS
from scopevit.own_data.samples import OwnData
from scopevit.own_data.split import folder_split


def read_folders(root: Path) -> OwnData:
    """Reads `<class>/<image>`, or `train/<class>/<image>` and `val/<class>/<image>`.

    Raises:
        InputError: If images lie beside the folders, classes are fewer than two, or a class is
            there to validate on alone.
    """
    files = [Path(file) for file in find_images(root)]
    tops = sorted({file.parts[0] for file in files if len(file.parts) > 1})
    # A class may be called train, too; a split has folders of its own.
    nested = {file.parts[0] for file in files if len(file.parts) > 2}
    splits = {top: folder_split(top) if top in nested else None for top in tops}
    split_folders = [top for top in tops if splits[top]]
    if split_folders and len(split_folders) < len(tops):
        others = ', '.join(top for top in tops if not splits[top])
        raise InputError(
            f'{root} has folders of splits ({", ".join(split_folders)}) and others ({others}); '
            'it takes either'
        )
    depth = 1 if split_folders else 0
    loose = [file for file in files if len(file.parts) < depth + 2]
    if loose:
        raise InputError(
            f'{root / loose[0]} is in no folder of a class ({len(loose)} such images); '
            'it takes <class>/<image> or train/<class>/<image>'
        )
    names = [file.parts[depth] for file in files]
    classes = sorted(set(names))
    if len(classes) < 2:
        raise InputError(f'{root} has one class, {classes[0]}; classification takes two or more')
    if {name.lower() for name in classes} <= {*IMAGE_FOLDERS, *MAP_FOLDERS}:
        raise InputError(
            f'{root} has the folders {", ".join(classes)}, which are no classes; are they data of '
            'segmentation, detection or pose?'
        )
    images = read_sizes(root, [file.as_posix() for file in files])
    for image, file, name in zip(images, files, names):
        image.label = classes.index(name)
        image.split = splits[file.parts[0]]
    check_train_classes(root, classes, [i.label for i in images if i.split in ('train', None)])
    return OwnData(root, 'folders of classes', classes, images)


def check_train_classes(root: Path, classes: list[str], trained: list[int | None]) -> None:
    """Checks that no class is in other splits alone: most likely it is misspelt there."""
    absent = [name for i, name in enumerate(classes) if i not in trained]
    if absent and trained:
        raise InputError(f'{root}: no image to train on of {", ".join(absent)}; is it misspelt?')
