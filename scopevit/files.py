"""Files that are written whole or not at all."""

import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scopevit.errors import InputError


@contextmanager
def replacing(path: str | Path, ending: str = '') -> Iterator[Path]:
    """Gives a file to write beside `path`, which takes its place once it is written.

    Its folder is made if need be. `ending` ends its name, for what goes by it.

    Raises:
        InputError: If it cannot be written; what was there before is still there then.
    """
    path = Path(path)
    # Several processes may write one file, each a part of its own.
    part = path.with_name(f'{path.name}.{secrets.token_hex(4)}.part{ending}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise InputError(f'cannot write {path}: {error.strerror or error}') from error
    finally:
        if part.is_file():
            part.unlink()


def flush(path: Path) -> None:
    """Waits until the disk has a file, or what a folder lists."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: object) -> None:
    """Writes a JSON file; numbers that JSON lacks (NaN, inf) become null."""
    write_text(path, json.dumps(to_json(content), indent=2, allow_nan=False) + '\n')


def to_json(value: object) -> object:
    """Returns a value in types that JSON has."""
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if hasattr(value, 'tolist'):  # numbers and arrays of numpy and torch
        return to_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
