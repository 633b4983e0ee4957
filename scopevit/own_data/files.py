"""Files below the folder of own data."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import Image

from scopevit.errors import InputError
from scopevit.own_data.samples import OwnImage
from scopevit.own_data.split import folder_split

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
ORIENTATION = 0x0112  # tag of EXIF; from 5 on, width and height change places
PATIENCE = 2.0  # seconds without a sign of life
NO_DATA = ('__MACOSX', 'work_dirs')
T = TypeVar('T')


def find_files(root: Path, suffixes: Iterable[str] = SUFFIXES) -> list[str]:
    """Returns the paths below a folder of all files with some suffixes, sorted, with `/`.

    Hidden files and folders, those a Mac adds to archives, results of trainings, what was converted
    before (a folder named after a config beside it), and pipes and devices are left out.

    Raises:
        InputError: If a path has line breaks, which the libraries' lists of files cannot have.
    """
    found, suffixes = [], tuple(suffixes)
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith('.')
            and name not in NO_DATA
            and f'{name}.py' not in names
            and not leads_back(os.path.join(folder, name))
        )
        below = Path(folder).relative_to(root)
        found += [
            (below / name).as_posix()
            for name in names
            if name.lower().endswith(suffixes)
            and not name.startswith('.')
            and not is_special(os.path.join(folder, name))
        ]
    for file in found:
        if '\n' in file or '\r' in file:
            raise InputError(f'{str(root / file)!r} has a line break in its name; rename it')
    return sorted(found)


def is_special(path: str) -> bool:
    """Returns whether something is there that is no regular file, as a pipe: reading may hang."""
    return os.path.exists(path) and not os.path.isfile(path)


def is_there(path: Path) -> bool:
    """Whether a file or folder is there; the system refuses names that are too long, say."""
    try:
        return path.exists()
    except OSError:
        return False


def leads_back(folder: str) -> bool:
    """Returns whether a folder is a link to one that it is in, below which nothing is new."""
    if not os.path.islink(folder):
        return False
    inside = os.path.join(os.path.realpath(os.path.dirname(folder)), '')
    return inside.startswith(os.path.join(os.path.realpath(folder), ''))


def find_images(root: Path) -> list[str]:
    """Returns the images below a folder, see `find_files`.

    Raises:
        InputError: If there is none.
    """
    found = find_files(root)
    if not found:
        raise InputError(f'no images in {root}; they end in {", ".join(SUFFIXES)}')
    return found


def images_by_name(root: Path) -> dict[str, list[str]]:
    """Returns the images below a folder by their names without folders."""
    found = defaultdict(list)
    for file in find_images(root):
        found[file.rsplit('/', 1)[-1]].append(file)
    return found


def image_at(root: Path, by_name: dict[str, list[str]], name: str, hints: Iterable[str]) -> str:
    """Returns the image that annotations call by some name.

    Args:
        root: Folder of the data, for messages.
        by_name: What `images_by_name` returned.
        name: As annotated, perhaps with folders that are not there.
        hints: Folders or splits that decide between images of one name, the first first.

    Raises:
        InputError: If there is none, or there are several.
    """
    name = name.replace('\\', '/').removeprefix('./')
    found = by_name.get(name.rsplit('/', 1)[-1], [])
    found = [path for path in found if f'/{path}'.endswith(f'/{name}')] or found
    for hint in hints:
        if len(found) > 1:
            folders = {path: path.split('/')[:-1] for path in found}
            near = [p for p in found if hint in (*folders[p], *map(folder_split, folders[p]))]
            found = near or found
    if not found:
        raise InputError(f'image {name} is not in {root}')
    if len(found) > 1:
        raise InputError(f'image {name} is there {len(found)} times: {", ".join(found[:3])}')
    return found[0]


def read_sizes(root: Path, files: list[str]) -> list[OwnImage]:
    """Returns images with their sizes, from the files' headers."""
    return [OwnImage(file, read_size(root / file)) for file in progress(files, 'images')]


def read_size(path: Path) -> tuple[int, int]:
    """Returns width and height of an image, turned as its EXIF says: so the libraries load it.

    Raises:
        InputError: If it is not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = turns(image)
    except FileNotFoundError as error:
        raise InputError(f'image not found: {path}') from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f'cannot read {path}: {error}') from error
    return (height, width) if turned else (width, height)


def is_turned(path: Path) -> bool:
    """Whether width and height of an image change places by its EXIF."""
    with Image.open(path) as image:
        return turns(image)


def turns(image: Image.Image) -> bool:
    """Whether the EXIF of an opened image makes width and height change places."""
    return image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)


def progress(items: list[T], what: str) -> Iterator[T]:
    """Yields items; once that has taken two seconds, a bar with the time left shows how many."""
    start, done = time.monotonic(), 0
    while done < len(items) and time.monotonic() - start <= PATIENCE:
        yield items[done]
        done += 1
    if done == len(items):
        return
    from rich.console import Console  # of mmengine
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(
        items[done:],
        f'{what}:',
        total=len(items),
        completed=done,
        transient=True,
        console=console,
        disable=not console.is_terminal,
    )
