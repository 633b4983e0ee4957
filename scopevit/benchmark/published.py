"""The paper's table of results."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from scopevit.errors import InputError

FIELD_TYPES = {
    'system': str,
    'params': (int, float),
    'gflops': (int, float),
    'resolution': int,
    'top1': (int, float),
    'venue': str,
    'config': (str, type(None)),
}


@dataclass(frozen=True)
class Published:
    """A row of the paper's table.

    Attributes:
        system: Name of the model there.
        params: Parameters in millions.
        gflops: Multiply-adds in G, as the field says GFLOPs.
        resolution: Side of the image in pixels.
        top1: Top-1 accuracy on ImageNet-1K, in per cent.
        venue: Where it was published.
        config: Config that builds it, None where no installed library does.
    """

    system: str
    params: float
    gflops: float
    resolution: int
    top1: float
    venue: str
    config: str | None


def read_published(path: str | Path) -> list[Published]:
    """Reads a YAML list of published results, one mapping with the fields of `Published` each.

    Raises:
        InputError: If the file is missing or has another content.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'--published: cannot read {path}: {error}') from error
    except yaml.YAMLError as error:
        raise InputError(f'{path} is not YAML: {error}') from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{path} must be a list of published results')
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or set(entry) != set(FIELD_TYPES):
            raise InputError(f'{path}: entry {number} must have {", ".join(FIELD_TYPES)}')
        for key, types in FIELD_TYPES.items():
            if not isinstance(entry[key], types):
                raise InputError(f'{path}: entry {number}: {key} cannot be {entry[key]!r}')
    return [Published(**entry) for entry in entries]
