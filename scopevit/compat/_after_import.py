"""Run a function right after a library's module was imported, and not import it for that."""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader  # imports much else


class _AfterImportFinder:
    """Finds one module where Python finds it, and lets its loader call the functions."""

    def __init__(self, fullname: str, function: Callable[[ModuleType], None]) -> None:
        self.fullname = fullname
        self.functions = [function]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.fullname:
            return None
        # every other finder, not PathFinder alone: editable installs bring their own
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                self._extend(spec.loader)
                return spec
        return None

    def _extend(self, loader: 'Loader') -> None:
        execute = loader.exec_module

        def execute_and_call(module: ModuleType) -> None:
            execute(module)
            for function in self.functions:
                function(module)

        vars(loader)['exec_module'] = execute_and_call  # each module has a loader of its own


def after_import(fullname: str, function: Callable[[ModuleType], None]) -> None:
    """Calls a function with a module now, if it was imported, or else when it is.

    Several functions are called in the order in which they came, each once.
    """
    for finder in sys.meta_path:
        if isinstance(finder, _AfterImportFinder) and finder.fullname == fullname:
            if function in finder.functions:
                return
            finder.functions.append(function)
            break
    else:
        sys.meta_path.insert(0, _AfterImportFinder(fullname, function))
    if fullname in sys.modules:
        function(sys.modules[fullname])
