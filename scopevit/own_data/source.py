"""Values as the source of a config."""

import textwrap
from typing import Any

WIDTH = 100


class Name(str):
    """A variable or expression, which stands without quotes."""

    def __repr__(self) -> str:
        return str(self)


def assign(name: str, value: Any, comment: str = '') -> str:
    """Returns an assignment, under a comment."""
    lines = textwrap.wrap(comment, WIDTH - 2)
    text = f'{name} = {to_source(value, len(name) + 3)}'
    return '\n'.join([*(f'# {line}' for line in lines), text])


def to_source(value: Any, column: int = 0, indent: int = 0) -> str:
    """Returns the source of a value that begins in a column of a line with some indentation."""
    text = flat(value)
    if column + len(text) <= WIDTH - 1 or not isinstance(value, (dict, list, tuple)):
        return text
    inner = indent + 4
    pad = ' ' * inner
    if isinstance(value, dict):
        opening, closing = ('dict(', ')') if has_names(value) else ('{', '}')
        lines = []
        for key, item in value.items():
            head = argument(key) if has_names(value) else f'{key!r}: '
            lines.append(f'{pad}{head}{to_source(item, inner + len(head), inner)},')
    else:
        opening, closing = '[]' if isinstance(value, list) else '()'
        items = [flat(item) for item in value]
        if any(isinstance(item, dict) for item in value):
            lines = [f'{pad}{to_source(item, inner, inner)},' for item in value]
        else:
            lines = wrap(items, WIDTH - inner)
            lines = [pad + line for line in lines]
    return '\n'.join([opening, *lines, ' ' * indent + closing])


def wrap(items: list[str], width: int) -> list[str]:
    """Returns items, each with its comma, on lines of at most a width."""
    lines = ['']
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) + 2 > width:
            lines.append('')
        lines[-1] += f'{" " if lines[-1] else ""}{item},'
    return lines


def flat(value: Any) -> str:
    """Returns the source of a value on one line."""
    if isinstance(value, dict) and has_names(value):
        return f'dict({", ".join(f"{argument(key)}{flat(item)}" for key, item in value.items())})'
    if isinstance(value, dict):
        return '{' + ', '.join(f'{key!r}: {flat(item)}' for key, item in value.items()) + '}'
    if isinstance(value, (list, tuple)):
        inside = ', '.join(flat(item) for item in value)
        if isinstance(value, tuple) and len(value) == 1:
            inside += ','
        return f'[{inside}]' if isinstance(value, list) else f'({inside})'
    return repr(value)


def has_names(value: dict[Any, Any]) -> bool:
    """Returns whether all keys of a dict can be keywords."""
    return all(isinstance(key, str) and (key.isidentifier() or key == '**') for key in value)


def argument(name: str) -> str:
    """Returns what stands before the value of a keyword; `**` has other keywords as its value."""
    return name if name == '**' else f'{name}='
