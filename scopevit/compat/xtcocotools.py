"""Stand in for `xtcocotools` on top of pycocotools.

Symptom: `import mmpose` ends in `ModuleNotFoundError: No module named 'xtcocotools'`, or, with
its wheel beside numpy 2, in `ValueError: numpy.dtype size changed` or an ImportError.

Versions: xtcocotools 1.14 and before (the newest): wheels for numpy 1 only, and a source that
needs Cython and a compiler. mmpose 1.3 imports it everywhere.

Way out: `standins/xtcocotools` has the names mmpose uses. A xtcocotools that imports wins.

Delete when: xtcocotools has wheels for numpy 2, or mmpose uses pycocotools.
"""

import importlib
import sys
from importlib.util import find_spec

from scopevit.compat._standin import STANDINS, is_offered, offer

WRITTEN_FOR = {'mmpose': '>=1.3,<1.4'}

_NAME = 'xtcocotools'


def apply() -> None:
    """Offers `xtcocotools` where there is none, or one that does not import."""
    if is_offered(_NAME):
        return
    installed = _NAME in sys.modules or find_spec(_NAME) is not None
    if installed and _imports():
        return
    offer(_NAME, STANDINS / _NAME, first=installed)


def _imports() -> bool:
    """Whether the installed xtcocotools, its compiled part included, can be imported."""
    try:
        importlib.import_module(f'{_NAME}.mask')
    except (ImportError, ValueError, AttributeError):
        # what a module compiled for another numpy raises, by numpy's version
        for name in [m for m in sys.modules if m.split('.')[0] == _NAME]:
            del sys.modules[name]
        return False
    return True
