"""Ways through configs."""

from collections.abc import Iterator
from typing import Any


def type_name(cfg: dict[str, Any]) -> str:
    """Returns the name of a config's type, without its scope or module.

    A step of ours has the name of the library's step that it stands for.
    """
    kind = cfg['type']
    name: str = kind if isinstance(kind, str) else kind.__name__
    return name.rpartition('.')[2].removeprefix('scopevit/')


def leaf_configs(cfg: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the configs of the data sets that wrappers hold, or the one given."""
    if 'datasets' in cfg:
        for child in cfg['datasets']:
            yield from leaf_configs(child)
    elif 'dataset' in cfg:
        yield from leaf_configs(cfg['dataset'])
    else:
        yield cfg
