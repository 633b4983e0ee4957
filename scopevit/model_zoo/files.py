"""Which configs the libraries come with, and which of them are not tried, with the reason."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scopevit.engine.libraries import LIBRARIES
from scopevit.errors import InputError

ORDER = ('mmdet', 'mmseg', 'mmpretrain', 'mmpose')
assert set(ORDER) == set(LIBRARIES)
# mmpose has a folder a task and in it one a method.
DEPTH = {'mmpose': 2}


@dataclass(frozen=True, order=True)
class ConfigFile:
    """A config of a library.

    Attributes:
        library: Import name.
        family: Folder, which stands for a method: 'mask_rcnn', 'body_2d_keypoint/rtmpose'.
        name: Path below the library's `configs`.
        path: The file.
    """

    library: str
    family: str
    name: str
    path: Path


def find_configs(library: str) -> list[ConfigFile]:
    """Returns the configs of an installed library by their names, but for those in `_base_`.

    Raises:
        InputError: If the library is not installed, or came without its configs.
    """
    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:
        raise InputError(f'{library} is not installed: run tools/install.sh PYTHON (see README.md)')
    folder = Path(spec.origin).parent / '.mim' / 'configs'
    if not folder.is_dir():
        raise InputError(f'{library} has no configs in {folder}: install it from its wheel')
    return configs_below(folder, library)


def configs_below(folder: Path, library: str) -> list[ConfigFile]:
    """Returns the configs in a folder, by their names, but for those in `_base_`."""
    names = [path.relative_to(folder) for path in sorted(folder.rglob('*.py'))]
    depth = DEPTH.get(library, 1)
    return [
        ConfigFile(library, '/'.join(name.parts[:-1][:depth]), str(name), folder / name)
        for name in names
        if '_base_' not in name.parts
    ]


def one_of_each_family(files: Sequence[ConfigFile]) -> list[ConfigFile]:
    """Returns the smallest config of each family, of equal ones the first.

    One right in its folder comes before all in folders of it, which hold uses of the method.
    """
    chosen: dict[tuple[str, str], ConfigFile] = {}
    for file in sorted(files, key=lambda f: (folders_down(f), f.path.stat().st_size, f.name)):
        chosen.setdefault((file.library, file.family), file)
    return sorted(chosen.values(), key=lambda file: (ORDER.index(file.library), file.name))


def folders_down(file: ConfigFile) -> int:
    """Returns how many folders a config is down."""
    return file.name.count('/')
