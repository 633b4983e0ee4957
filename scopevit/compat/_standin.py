"""Offer a module of ours under a library's name, where nobody else has that module.

The finder sits at the end of `sys.meta_path`: Python asks it only after every ordinary place
has been searched, so a real module always wins, whenever it was installed, and nothing is
imported before somebody asks for the name. The module is loaded from its file under the
library's name; `__spec__` is then right and `importlib.reload` works.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

from scopevit.compat._acted import record

STANDINS = Path(__file__).parent / 'standins'


class StandInFinder:
    """Finds one module (or package) by the name that a library imports, e.g. `mmcv._ext`.

    `path` is a file, or for a package a folder with an `__init__.py`, of the name of its shim, that
    acts when the module is found. Python finds the submodules of a package itself.
    """

    def __init__(self, fullname: str, path: Path) -> None:
        self.fullname = fullname
        self.path = path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        if fullname != self.fullname:
            return None
        record(self.path.stem)
        file = self.path / '__init__.py' if self.path.is_dir() else self.path
        return importlib.util.spec_from_file_location(fullname, file)


def is_offered(fullname: str) -> bool:
    """Whether a stand-in for the name was offered before."""
    return any(isinstance(f, StandInFinder) and f.fullname == fullname for f in sys.meta_path)


def offer(fullname: str, path: Path, first: bool = False) -> None:
    """Adds the finder of one stand-in, once, at the end.

    `first` asks it before everybody else: only for a module that is there and does not import.
    """
    if not is_offered(fullname):
        sys.meta_path.insert(0 if first else len(sys.meta_path), StandInFinder(fullname, path))
