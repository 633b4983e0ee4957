"""Put ``pkgutil.find_loader`` back.

Symptom: ``AttributeError: module 'pkgutil' has no attribute 'find_loader'`` when mmengine saves a
checkpoint or mmcv looks for its operators.

Versions: Python 3.14 removed it; mmengine 0.10 and mmcv 2.1 call it to see whether ``mmcv._ext``
is there.

Delete when: both use ``importlib.util.find_spec``.
"""

import pkgutil
from importlib.machinery import ModuleSpec
from importlib.util import find_spec


def apply() -> None:
    """Adds ``pkgutil.find_loader`` where it is missing."""
    if not hasattr(pkgutil, 'find_loader'):
        pkgutil.find_loader = find_loader


def find_loader(fullname: str) -> object | None:
    """Returns the loader of a module that can be imported, None for any other."""
    spec: ModuleSpec | None = find_spec(fullname)
    return None if spec is None else spec.loader
