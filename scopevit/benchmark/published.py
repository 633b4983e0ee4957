"""The paper's table of results."""

import math
import typing
from dataclasses import dataclass
from pathlib import Path

import yaml

from scopevit.errors import InputError
from scopevit.hub import find_config


@dataclass(frozen=True)
class Published:
    """A row of the paper's table."""

    system: str  # name of the model there
    params: int | float  # in millions
    gflops: int | float  # multiply-adds in G, as the field says GFLOPs
    resolution: int  # side of the image in pixels
    top1: int | float  # accuracy on ImageNet-1K, in per cent
    venue: str  # where it was published
    config: str | None  # name of the recipe that builds it, None where no installed library does

    @property
    def recipe(self) -> Path | None:
        """Resolved path of its recipe, wherever the package is."""
        return find_config(self.config).resolve() if self.config else None


FIELD_TYPES = {
    key: typing.get_args(hint) or (hint,) for key, hint in typing.get_type_hints(Published).items()
}


def read_published(path: str | Path) -> list[Published]:
    """Reads a YAML list of published results, one mapping with the fields of `Published` each.

    Raises:
        InputError: If the file is missing or has another content, or there is no such recipe.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'--published: cannot read {path}: {error}') from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # as of a number of any length
        raise InputError(f'{path} is not YAML: {error}') from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{path} must be a list of published results')
    for number, entry in enumerate(entries, 1):
        check_entry(f'{path}: entry {number}', entry)
    return [Published(**entry) for entry in entries]


def check_entry(name: str, entry: object) -> None:
    """Raises an InputError unless an entry has the fields of `Published`, with values they take."""
    if not isinstance(entry, dict) or set(entry) != set(FIELD_TYPES):
        raise InputError(f'{name} must have {", ".join(FIELD_TYPES)}')
    for key, types in FIELD_TYPES.items():
        value = entry[key]
        if type(value) not in types:
            raise InputError(f'{name}: {key} cannot be {value!r}')
        if isinstance(value, (int, float)) and not 0 < value < math.inf:
            raise InputError(f'{name}: {key} must be above 0, not {value!r}')
    if entry['config'] is not None:
        try:
            find_config(entry['config'])
        except InputError as error:
            raise InputError(f'{name}: {error}') from error
