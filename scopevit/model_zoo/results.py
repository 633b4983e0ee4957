"""Outcomes by config in a file that a run goes on with, and as tables."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scopevit.errors import InputError
from scopevit.files import write_text
from scopevit.model_zoo.causes import KINDS, WORKS, Outcome, read_outcome
from scopevit.model_zoo.files import ConfigFile
from scopevit.report import markdown_table


@dataclass(frozen=True)
class Tried:
    """A config that was tried.

    Attributes:
        outcome: What became of it.
        mark: Fingerprint of its model and inputs, '' where it could not be read.
        seconds: How long it took.
    """

    outcome: Outcome
    mark: str
    seconds: float


def key_of(file: ConfigFile) -> str:
    """Returns the name of a config among those of all libraries."""
    return f'{file.library}/{file.name}'


class Results:
    """A file of JSON lines: versions first, then a line a config.

    Args:
        path: The file, which is begun where there is none.
        versions: Those that the outcomes hold for.

    Raises:
        InputError: If the file is of other versions, or is no file of results.
    """

    def __init__(self, path: Path, versions: dict[str, str]) -> None:
        self.path = path
        self.tried: dict[str, Tried] = {}
        if not path.is_file():
            write_text(path, json.dumps({'versions': versions}) + '\n')
            return
        try:
            first, *lines = [json.loads(line) for line in whole_lines(path)]
            there = first['versions']
            self.tried = {line['config']: read_line(line) for line in lines}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f'--out: {path} is no file of results: {error}') from error
        changed = [name for name in {**there, **versions} if there.get(name) != versions.get(name)]
        if changed:
            raise InputError(
                f'--out: {path} holds what other versions did ({", ".join(sorted(changed))}): '
                'name another folder'
            )
        # A run that was killed may have left half a line behind.
        write_text(path, ''.join(f'{line}\n' for line in whole_lines(path)))

    def add(self, file: ConfigFile, tried: Tried) -> None:
        """Adds a line; of two for a config, the later counts."""
        self.tried[key_of(file)] = tried
        line = {'config': key_of(file), **tried.outcome.describe(), 'mark': tried.mark,
                'seconds': round(tried.seconds, 1)}  # fmt: skip
        with self.path.open('a', encoding='utf-8') as stream:
            stream.write(json.dumps(line) + '\n')


def whole_lines(path: Path) -> list[str]:
    """Returns the lines of a file, but for one at its end that was not finished."""
    return path.read_text(encoding='utf-8').split('\n')[:-1]


def read_line(line: dict[str, Any]) -> Tried:
    """Returns what a line says of a config."""
    return Tried(read_outcome(line), line['mark'], line['seconds'])


def make_tables(files: Sequence[ConfigFile], tried: Mapping[str, Tried]) -> str:
    """Returns tables of the outcomes in Markdown: by library, by family, and the causes."""
    rows = [[library, *counts(group, tried)] for library, group in grouped(files, False).items()]
    rows.append(['all', *counts(files, tried)])
    columns = ['files', 'tried', *KINDS]
    families = [[family, *counts(group, tried)] for family, group in grouped(files, True).items()]
    return '\n'.join([
        markdown_table(['library', *columns], rows),
        '### By family\n',
        markdown_table(['family', *columns], families),
        '### What does not work, and why\n',
        causes_table(files, tried),
    ])  # fmt: skip


def grouped(files: Sequence[ConfigFile], by_family: bool) -> dict[str, list[ConfigFile]]:
    """Returns configs by their library, or by library and family."""
    groups: dict[str, list[ConfigFile]] = {}
    for file in files:
        name = f'{file.library}/{file.family}' if by_family else file.library
        groups.setdefault(name, []).append(file)
    return groups


def counts(files: Sequence[ConfigFile], tried: Mapping[str, Tried]) -> list[str]:
    """Returns how many configs there are, were tried, and ended how; '' for none."""
    kinds = Counter(tried[key_of(file)].outcome.kind for file in files if key_of(file) in tried)
    numbers = [kinds.total(), *(kinds[kind] for kind in KINDS)]
    return [str(len(files)), *(str(number) if number else '' for number in numbers)]


def causes_table(files: Sequence[ConfigFile], tried: Mapping[str, Tried]) -> str:
    """Returns a line for each cause: its kind, what is missing or said, and the families."""
    found: dict[tuple[str, str], list[str]] = {}
    for file in files:
        outcome = tried[key_of(file)].outcome if key_of(file) in tried else None
        if outcome is not None and outcome.kind != WORKS:
            cause = (outcome.kind, outcome.what or outcome.reason)
            found.setdefault(cause, []).append(f'{file.library}/{file.family}')
    rows = [
        [kind, cause, str(len(names)), ', '.join(dict.fromkeys(names))]
        for (kind, cause), names in sorted(
            found.items(), key=lambda item: (KINDS.index(item[0][0]), -len(item[1]), item[0][1])
        )
    ]
    return markdown_table(['kind', 'what', 'files', 'families'], rows, align='llrl')
