"""Let mmengine read YAML as data.

Symptom: a tag in a YAML file, as `!!python/object/apply:os.system`, runs code: of a config, of one
that it inherits from, of annotations.

Versions: mmengine 0.10 reads with PyYAML's `CLoader`, which builds any Python object.

Way out: its handler gets the loader for data.

Delete when: mmengine reads with a safe loader.
"""

from types import ModuleType

import yaml

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

WRITTEN_FOR = {'mmengine': '>=0.10,<0.11'}


def apply() -> None:
    """Waits for mmengine's handler."""
    after_import('mmengine.fileio.handlers.yaml_handler', _make_safe)


def _make_safe(handler: ModuleType) -> None:
    # The one in C, where PyYAML has been built with it.
    vars(handler)['Loader'] = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    record(__name__)
