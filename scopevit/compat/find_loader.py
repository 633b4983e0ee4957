"""Put `pkgutil.find_loader` back.

Symptom: `AttributeError: module 'pkgutil' has no attribute 'find_loader'` when mmengine saves a
checkpoint or mmcv looks for its operators.

Versions: Python 3.14 removed it; mmengine 0.10 and mmcv 2.1 call it to see whether `mmcv._ext`
is there.

Way out: a function of the same name on what both should use.

Delete when: both use `importlib.util.find_spec`.
"""

import pkgutil
from importlib.util import find_spec
from typing import TYPE_CHECKING

from scopevit.compat._acted import record

if TYPE_CHECKING:
    from importlib.abc import Loader

WRITTEN_FOR = {'mmengine': '>=0.10,<0.11', 'mmcv-lite': '>=2.1,<2.2'}


def apply() -> None:
    """Adds `pkgutil.find_loader` where it is missing."""
    if not hasattr(pkgutil, 'find_loader'):
        pkgutil.find_loader = find_loader
        record(__name__)


def find_loader(fullname: str) -> 'Loader | None':
    """Returns the loader of a module that can be imported, None for any other."""
    spec = find_spec(fullname)
    return None if spec is None else spec.loader
