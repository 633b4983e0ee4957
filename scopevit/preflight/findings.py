"""What the checks before a training find."""

from dataclasses import dataclass
from typing import Literal

Level = Literal['error', 'warning', 'note']


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
    """

    level: Level
    what: str
    where: str
    count: int
    text: str
