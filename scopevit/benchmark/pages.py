"""What the benchmarks share of what they tell: progress, folder and page of their results."""

import sys
from collections.abc import Sequence
from pathlib import Path

from scopevit.errors import InputError
from scopevit.report import markdown_table, replace_between


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


def page_with(path: str, begin: str, end: str, content: str) -> str:
    """Returns the page of `--page` with other content between two marks.

    Raises:
        InputError: If there is no such page, or it has no place for the content.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
    except OSError as error:
        raise InputError(f'--page: cannot read {path}: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise InputError(f'--page: {path} is no text in UTF-8: {error}') from error
    return replace_between(text, begin, end, f'\n{content}\n', f'--page: {path}')


def machine_table(machine: dict[str, str]) -> str:
    """Returns the table of `describe_machine`."""
    return markdown_table(['what', 'which'], list(machine.items()), align='ll')


def make_page(parts: Sequence[str], failed: Sequence[str], machine: dict[str, str]) -> str:
    """Joins parts of a page, and adds what failed, a line each, and the machine."""
    if failed:
        parts = [*parts, '## Not measured\n', ''.join(f'- {line}\n' for line in failed)]
    return '\n'.join([*parts, '## Machine\n', machine_table(machine)])
