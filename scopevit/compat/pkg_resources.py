"""Stand in for `pkg_resources`, which setuptools no longer ships.

Symptom: `ModuleNotFoundError: No module named 'pkg_resources'` as soon as a config inherits
from an installed library (`_base_ = 'mmdet::...'`).

Versions: mmengine 0.10 imports it in `mmengine/utils/package_utils.py`; setuptools 82 removed
it. Below 82 the real one is found first; it warns, each time mmengine reloads it, that it is
deprecated, which is nothing that a user of ours could change.

Way out: `standins/pkg_resources.py` has what mmengine and pytest use of it.

Delete when: mmengine no longer imports `pkg_resources`.
"""

import warnings

from scopevit.compat._standin import STANDINS, offer

WRITTEN_FOR = {'mmengine': '>=0.10,<0.11'}


def apply() -> None:
    """Offers `pkg_resources` to those who have none, and lets the real one keep silent."""
    warnings.filterwarnings('ignore', 'pkg_resources is deprecated as an API')
    offer('pkg_resources', STANDINS / 'pkg_resources.py')
