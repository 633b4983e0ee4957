"""What may run code without anybody having meant it to: pickles, and names of types in options."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.fileio.handlers import PickleHandler

from scopevit.engine.libraries import LIBRARIES
from scopevit.errors import InputError

PICKLES = ('.pkl', '.pickle', '.p')
REFUSED = 'a pickle, which may run code when it is read; --trust-pickles reads it all the same'
SCOPES = ('mmengine', *LIBRARIES)


def check_pickles(cfg: Config, *modes: str) -> None:
    """Raises an InputError where data sets for 'train', 'val' or 'test' are pickles."""
    for mode in modes:
        for key, path in texts(cfg.get(f'{mode}_dataloader'), f'{mode}_dataloader'):
            if path.endswith(PICKLES):
                raise InputError(f'{path} ({key}) is {REFUSED}')


@contextmanager
def reading_pickles(trusted: bool) -> Iterator[None]:
    """Lets mmengine read no pickle, whatever its name, unless they are trusted.

    That is so in this process and in those that it forks, which load data.
    """
    if trusted:
        yield
        return

    def refuse(self: PickleHandler, file: Any, *args: Any, **kwargs: Any) -> None:
        raise InputError(f'a file that is to be read ({file}) is {REFUSED}')

    names = ('load_from_fileobj', 'load_from_path')
    before = {name: getattr(PickleHandler, name) for name in names}
    for name in names:
        setattr(PickleHandler, name, refuse)
    try:
        yield
    finally:
        for name, read in before.items():
            setattr(PickleHandler, name, read)


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
            if not is_type(key.rpartition('.')[2]) or '.' not in name:
                continue
            scope, _, rest = name.partition('.')
            if scope in SCOPES and '.' not in rest:
                continue
            if not any(name.startswith(f'{module}.') for module in imported):
                raise InputError(
                    f'--cfg-options {key}: {name} is no type of {", ".join(SCOPES)}; '
                    'custom_imports of the config names the modules of others'
                )


def is_type(key: str) -> bool:
    """Whether mmengine looks a value up among its types, by the last name of its key."""
    return key in ('type', 'constructor') or key.endswith('_type')
