"""Run a function right after a library's module was imported, and not import it for that."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _CallingLoader(Loader):
    """Executes a module as its own loader does, then calls the function with it."""

    def __init__(self, loader: Loader, function: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._function = function

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._function(module)

    def __getattr__(self, name: str) -> object:
        # get_source and others, which tracebacks and inspect ask for
        return getattr(self._loader, name)


class _AfterImportFinder(MetaPathFinder):
    """Finds one module where Python finds it, and wraps its loader."""

    def __init__(self, fullname: str, function: Callable[[ModuleType], None]) -> None:
        self.fullname = fullname
        self._function = function

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.fullname:
            return None
        # every other finder, not PathFinder alone: editable installs bring their own
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _CallingLoader(spec.loader, self._function)
                return spec
        return None


def after_import(fullname: str, function: Callable[[ModuleType], None]) -> None:
    """Calls a function with a module now, if it was imported, or else when it is.

    Args:
        fullname: The full name of the module. A second function for it is ignored.
        function: Gets the module.
    """
    for finder in sys.meta_path:
        if isinstance(finder, _AfterImportFinder) and finder.fullname == fullname:
            return
    sys.meta_path.insert(0, _AfterImportFinder(fullname, function))
    if fullname in sys.modules:
        function(sys.modules[fullname])
