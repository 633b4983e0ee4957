"""Let mmengine read YAML as data.

Symptom: a tag in a YAML file, as `!!python/object/apply:os.system`, runs code: of a config, of one
that it inherits from, of annotations.

Versions: mmengine 0.10 reads with PyYAML's `CLoader`, which builds any Python object.

Way out: its handler gets the loader for data, which also reads tuples: mmengine writes those.

Delete when: mmengine reads with a safe loader.
"""

from types import ModuleType
from typing import Any

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

WRITTEN_FOR = {'mmengine': '>=0.10,<0.11'}


def apply() -> None:
    """Waits for mmengine's handler."""
    after_import('mmengine.fileio.handlers.yaml_handler', _make_safe)


def _make_safe(handler: ModuleType) -> None:
    import yaml

    # The one in C, where PyYAML has been built with it.
    safe: Any = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    loader: Any = type('DataLoader', (safe,), {'__doc__': 'Reads data, and tuples.'})
    loader.add_constructor('tag:yaml.org,2002:python/tuple', _read_tuple)
    vars(handler)['Loader'] = loader
    record(__name__)


def _read_tuple(loader: Any, node: Any) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))
