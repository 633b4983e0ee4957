"""What the checks before a training find."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Level = Literal['error', 'warning', 'note']
LEVELS: tuple[Level, ...] = ('error', 'warning', 'note')


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: 'error' for what ends a training or makes its metric worthless, 'warning' for what
            may be meant, 'note' for what is good to know.
        what: What it is, in a few words, as a row of the table has it: 'boxes outside the image'.
        where: Split, or key of the config: 'train'.
        count: How many there are.
        text: One line that names a file or key, what is wrong and what would be right.
        files: Images that show it, the first few.
    """

    level: Level
    what: str
    where: str
    count: int
    text: str
    files: tuple[str, ...] = ()


def merge(findings: Iterable[Finding]) -> list[Finding]:
    """Sums what was found of one kind in one place, and sorts it, errors first."""
    merged: dict[tuple[str, str, str], Finding] = {}
    for found in findings:
        key = (found.level, found.what, found.where)
        first = merged.get(key)
        if first is not None:
            count, files = first.count + found.count, first.files + found.files
            found = replace(first, count=count, files=files)
        merged[key] = found
    return sorted(merged.values(), key=lambda found: LEVELS.index(found.level))
