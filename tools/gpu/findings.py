"""What a step of the check finds, in a file that is there from its first finding on."""

import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scopevit.files import write_json
from scopevit.report import markdown_table

KEPT = ('pages', 'problems', 'notes', 'figures')


@dataclass
class Findings:
    """What a step has found so far; a step that is stopped leaves what it had.

    Attributes:
        path: JSON file, written anew at every finding.
        pages: Tables and texts in Markdown, by their titles.
        problems: What is wrong, a line each.
        notes: What else is worth a line.
        figures: The numbers behind the tables, in types that JSON has.
        deadline: Time of `time.monotonic` at which the step is stopped.
    """

    path: Path
    pages: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    deadline: float = math.inf

    @property
    def seconds_left(self) -> float:
        """Until the step is stopped, less what it takes to end by itself."""
        return self.deadline - time.monotonic() - 5.0

    def save(self) -> None:
        """Writes the file."""
        write_json(self.path, {name: getattr(self, name) for name in KEPT})

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], align: str = ''
    ) -> None:
        """Keeps a table, in place of one of the same title; see `markdown_table`."""
        self.pages[title] = markdown_table(columns, rows, align)
        self.figures[title] = [dict(zip(columns, row)) for row in rows]
        self.save()

    def page(self, title: str, markdown: str) -> None:
        """Keeps a part of a tool's page, whose headings are put below the title."""
        self.pages[title] = re.sub('^#+ ', '#### ', markdown, flags=re.MULTILINE)
        self.save()

    def problem(self, line: str) -> None:
        """Keeps something that is wrong."""
        self.problems.append(line)
        self.save()

    def note(self, line: str) -> None:
        """Keeps something to know."""
        self.notes.append(line)
        self.save()


def read_findings(path: Path) -> Findings:
    """Reads the file of a step, of one that did not get to write one as empty.

    Raises:
        ValueError: If it is no such file.
    """
    if not path.is_file():
        return Findings(path)
    content = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(content, dict) or set(content) != set(KEPT):
        raise ValueError(f'{path} holds no findings')
    return Findings(path, **content)
