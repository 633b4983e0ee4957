"""What may run code without anybody having meant it to: pickles, and names of types in options."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from scopevit.engine.libraries import LIBRARIES
from scopevit.errors import InputError

PICKLES = ('.pkl', '.pickle')
LOADED = ('train', 'val', 'test')
SCOPES = ('mmengine', *LIBRARIES)


def check_pickles(cfg: Config) -> None:
    """Raises an InputError where data sets or metrics of a config would read a pickle."""
    for mode in LOADED:
        for part in ('dataloader', 'evaluator'):
            for key, path in texts(cfg.get(f'{mode}_{part}'), f'{mode}_{part}'):
                # What a metric writes, it does not read.
                if path.endswith(PICKLES) and not key.rpartition('.')[2].startswith('out'):
                    raise InputError(
                        f'{path} ({key}) is a pickle, which may run code when it is read; '
                        '--trust-pickles reads it all the same'
                    )


def texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yields the texts in a part of a config, with their keys."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from texts(item, f'{key}.{name}')
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from texts(item, f'{key}.{i}')


def check_types(options: dict[str, Any], cfg: Config) -> None:
    """Raises an InputError where `--cfg-options` name a type that no library has registered.

    mmengine imports and calls whatever has dots in its name. In a config that is the choice of who
    wrote its code; an option may come from elsewhere.
    """
    imported = (cfg.get('custom_imports') or {}).get('imports') or []
    imported = [imported] if isinstance(imported, str) else imported
    for option, value in options.items():
        for key, name in texts(value, option):
            if key.rpartition('.')[2] != 'type' or '.' not in name:
                continue
            scope, _, rest = name.partition('.')
            if scope in SCOPES and '.' not in rest:
                continue
            if not any(name.startswith(f'{module}.') for module in imported):
                raise InputError(
                    f'--cfg-options {key}: {name} is no type of {", ".join(SCOPES)}; '
                    'custom_imports of the config names the modules of others'
                )
