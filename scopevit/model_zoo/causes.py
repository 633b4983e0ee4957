"""Why a config does not work: what an error that the libraries raised means."""

import re
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scopevit.engine.libraries import LIBRARIES

WORKS, OPERATOR, PACKAGE, VERSIONS, OTHER, LEFT_OUT = KINDS = (
    'works',
    'operator',
    'package',
    'versions',
    'other',
    'left out',
)
LONGEST = 200  # letters of a reason
OURS = {*LIBRARIES, 'mmcv', 'mmengine', 'torch', 'torchvision', 'numpy'}

# What the operators of scopevit/compat that stand in for mmcv's say when there is none.
NO_OPERATOR = re.compile(r'the operator "(\w+)" of mmcv needs|(\w+) .* needs the compiled mmcv')
# How the libraries ask for a package.
NO_PACKAGE = (
    re.compile(r'pip install (?:-U |--upgrade )?["\'`]?([A-Za-z][\w.-]*(?:\[\w+\])?)'),
    re.compile(r'["\'`]?([A-Za-z][\w.-]*)["\'`]? is not installed'),
    re.compile(r'(?i)please install ["\'`]?([A-Za-z][\w.-]*)'),
    re.compile(r'(?i)need to install ["\'`]?([A-Za-z][\w.-]*)'),
)
TOO_MUCH = "can't allocate memory"  # torch's words; Python's error has none
# Other errors whose cause is known: pattern, kind, and the cause.
EXPLAINED = (
    (re.compile(r"module 'numpy' has no attribute"), VERSIONS, 'numpy'),
    (re.compile(r'only 0-dimensional arrays can be converted'), VERSIONS, 'numpy'),
    (re.compile(r"module 'torch[\w.]*' has no attribute"), VERSIONS, 'torch'),
    (re.compile(r'batch_norm eps must be positive'), VERSIONS, 'torch'),
    (re.compile(r'Weights only load failed'), VERSIONS, 'torch'),
    (
        re.compile(r'/configs/\S+ not found! It means'),
        OTHER,
        'inherits what the wheel lacks',
    ),
    (re.compile(TOO_MUCH), OTHER, 'needs more memory than --memory allows'),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a config.

    Attributes:
        kind: One of `KINDS`.
        what: The operator, package or library that is missing or too new, or another known cause.
        reason: What the error says, in a line.
        step: At which step it ended: 'read', 'build', 'inputs', 'loss' or 'predict'.
        same_as: Config with the same model and inputs that was tried in its place.
    """

    kind: str
    what: str = ''
    reason: str = ''
    step: str = ''
    same_as: str = ''

    def describe(self) -> dict[str, str]:
        """Returns what is known, in types that JSON has."""
        return {key: value for key, value in asdict(self).items() if value}


def outcome_of(error: BaseException, step: str) -> Outcome:
    """Returns what an error means that ended a step."""
    errors = list(chain(error))
    reason = one_line(f'{type(error).__name__}: {str(error).strip() or place_of(error)}')
    for each in errors:
        text = TOO_MUCH if isinstance(each, MemoryError) else str(each)
        if match := NO_OPERATOR.search(text):
            return Outcome(OPERATOR, match[1] or match[2], reason, step)
        if package := missing_package(each):
            return Outcome(PACKAGE, package, reason, step)
        for pattern, kind, what in EXPLAINED:
            if pattern.search(text):
                return Outcome(kind, what, reason, step)
    return Outcome(OTHER, '', reason, step)


def place_of(error: BaseException) -> str:
    """Returns where an error without words was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f'in {Path(frames[-1].filename).name}: {frames[-1].line}' if frames else ''


def missing_package(error: BaseException) -> str:
    """Returns the package that an error asks for, '' where it asks for none."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        root = error.name.partition('.')[0]
        return '' if root in OURS else root
    if not isinstance(error, (ImportError, RuntimeError, AssertionError)):
        return ''
    for pattern in NO_PACKAGE:
        if (match := pattern.search(str(error))) and match[1].lower() not in OURS:
            return match[1].rstrip('.')
    return ''


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and those that it came of, the first cause first."""
    if error is not None:
        yield from chain(error.__cause__ or error.__context__)
        yield error


def one_line(text: str) -> str:
    """Returns a text in one line that is short enough for a table."""
    line = ' '.join(text.split())
    return line if len(line) <= LONGEST else f'{line[: LONGEST - 4]} ...'


def read_outcome(line: dict[str, Any]) -> Outcome:
    """Returns the outcome of a line of results."""
    return Outcome(**{key: line[key] for key in Outcome.__annotations__ if key in line})
