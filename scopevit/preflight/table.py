"""What was found, as a table for a terminal."""

import shutil
import textwrap
from collections.abc import Callable

import numpy as np

from scopevit.preflight.findings import LEVELS, Finding

MOST_ROWS = 20
MOST_CLASSES = 15
HEAD = ('', 'what', 'where', 'count')
NARROWEST = 80


def print_table(findings: list[Finding], say: Callable[[str], object]) -> None:
    """Prints findings, errors first, each with its text below."""
    shown = findings[:MOST_ROWS]
    rows = [(f.level, f.what, f.where, f'{f.count:,}') for f in shown]
    widths = [max(map(len, column)) for column in zip(HEAD, *rows)]
    width = max(NARROWEST, shutil.get_terminal_size().columns)
    for i, row in enumerate([HEAD, *rows] if rows else []):
        cells = [cell.ljust(w) for cell, w in zip(row[:3], widths)]
        say('  '.join([*cells, row[3].rjust(widths[3])]).rstrip())
        if i:
            indent = ' ' * (widths[0] + 2)
            say(textwrap.fill(shown[i - 1].text, width, initial_indent=indent,
                              subsequent_indent=indent, break_long_words=False,
                              break_on_hyphens=False))  # fmt: skip
    if len(findings) > MOST_ROWS:
        say(f'{len(findings) - MOST_ROWS} more; --json FILE has all')


def print_counts(
    names: tuple[str, ...],
    counts: dict[str, np.ndarray],
    say: Callable[[str], object],
    head: str = 'class',
) -> None:
    """Prints how often classes occur in each split, the most frequent first."""
    order = np.argsort(-np.sum(list(counts.values()), axis=0), kind='stable')
    chosen = order if len(order) <= MOST_CLASSES else [*order[: MOST_CLASSES - 1], order[-1]]
    width = max(len(head), *(len(names[i]) for i in chosen))
    columns = {split: [f'{numbers[i]:,}' for i in chosen] for split, numbers in counts.items()}
    widths = {split: max(len(split), *map(len, column)) for split, column in columns.items()}
    say('  '.join([head.ljust(width), *(split.rjust(widths[split]) for split in columns)]))
    for row, i in enumerate(chosen):
        if len(order) > MOST_CLASSES and row == MOST_CLASSES - 1:
            say(f'... {len(order) - MOST_CLASSES} more ...')
        cells = [column[row].rjust(widths[split]) for split, column in columns.items()]
        say('  '.join([names[i].ljust(width), *cells]))


def summarize(findings: list[Finding]) -> str:
    """Returns how many errors, warnings and notes there are."""
    counts = {level: sum(found.level == level for found in findings) for level in LEVELS}
    return ', '.join(f'{n} {level}{"s" * (n != 1)}' for level, n in counts.items())
