"""What the benchmarks share of what they tell: progress, folder and page of their results."""

import sys
from collections.abc import Sequence
from pathlib import Path

from scopevit.errors import InputError
from scopevit.report import markdown_table


def log(line: str) -> None:
    """Prints a line about the progress."""
    print(line, file=sys.stderr, flush=True)


def make_folder(path: str) -> Path:
    """Makes a folder for results, before they have taken time."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'--out: cannot make the folder {path}: {error.strerror}') from error
    return folder


def machine_table(machine: dict[str, str]) -> str:
    """Returns the table of `describe_machine`."""
    return markdown_table(['what', 'which'], list(machine.items()), align='ll')


def make_page(parts: Sequence[str], failed: Sequence[str], machine: dict[str, str]) -> str:
    """Joins parts of a page, and adds what failed, a line each, and the machine."""
    if failed:
        parts = [*parts, '## Not measured\n', ''.join(f'- {line}\n' for line in failed)]
    return '\n'.join([*parts, '## Machine\n', machine_table(machine)])
