"""Damage to inputs, by their structure and by their bytes, out of a seeded random generator."""

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

DEEP = '@deep'  # stands for lists in lists until the value is text
DEPTHS = (50, 990, 5_000, 100_000)
ODD: tuple[Any, ...] = (
    None, True, False, '', 'x', '1', '-1.5', 'NaN', '\ud800', 'ä\u202e\0', 'y' * 5_000, '../../etc',
    '/dev/null', 0, 1, 2, -1, 0.5, -0.0, 255, 256, 65_536, 2**31, 2**63, -(2**63), 2**64, 10**30,
    10**400, 1e-320, 1e30, 1e308, float('nan'), float('inf'), -float('inf'), [], {}, [[]], [None],
    [1, 'a', None], {'id': 1}, {'': None}, [[0, 0, 4, 0]], [[0, 0, 4, 0, 4, 4]],
    [1e30] * 6, [0] * 1_000, DEEP,
    {'size': [4, 4], 'counts': [3, 5, 8]}, {'size': [2**31, 2**31], 'counts': 'o' * 12},
    {'size': [48, 64], 'counts': [10**12]}, {'size': [48, 64], 'counts': '\u0441'},
    {'size': [-1, 5], 'counts': []}, {'size': [48, 64], 'counts': 'PPYo1'},
)  # fmt: skip
# Code that would make a file, as literals, templates, tags and names of types have it.
PAYLOADS = (
    "__import__('os').system('touch {canary}')",
    '!!python/object/apply:os.system ["touch {canary}"]',
    '!!python/object/new:os.system [touch {canary}]',
    "{{{{ __import__('os').system('touch {canary}') }}}}",
    "dict(type='os.system', command='touch {canary}')",
    "dict(type='subprocess.getoutput', cmd='touch {canary}')",
    "eval(\"open('{canary}', 'w')\")",
    "open('{canary}', 'w')",
    "[open('{canary}', 'w') for _ in [0]]",
    "(lambda: open('{canary}', 'w'))()",
    'os.system',
    'builtins.exec',
    '$(touch {canary})',
    '; touch {canary}',
)
Node = tuple[Any, Any]  # what holds a value, and the key or index of it


def nodes(value: Any) -> Iterator[Node]:
    """Yields the places of all values in dicts and lists."""
    keys = value if isinstance(value, dict) else range(len(value)) if is_list(value) else ()
    for key in list(keys):
        yield value, key
        yield from nodes(value[key])


def is_list(value: Any) -> bool:
    return isinstance(value, list)


def replace(place: Node, others: list[Node], chance: random.Random) -> None:
    place[0][place[1]] = copy.deepcopy(chance.choice(ODD))


def remove(place: Node, others: list[Node], chance: random.Random) -> None:
    del place[0][place[1]]


def repeat(place: Node, others: list[Node], chance: random.Random) -> None:
    holder, key = place
    if is_list(holder):
        holder[key:key] = [copy.deepcopy(holder[key]) for _ in range(chance.choice([1, 1, 9]))]
    else:
        holder[f'{key}_'] = holder[key]


def take(place: Node, others: list[Node], chance: random.Random) -> None:
    """Copies the value from another place."""
    holder, key = chance.choice(others)
    place[0][place[1]] = copy.deepcopy(holder[key])


def swap(place: Node, others: list[Node], chance: random.Random) -> None:
    """Exchanges two values, unless one is in the other."""
    (a, i), (b, j) = place, chance.choice(others)
    first, second = copy.deepcopy(a[i]), copy.deepcopy(b[j])
    b[j] = first
    a[i] = second


def wrap(place: Node, others: list[Node], chance: random.Random) -> None:
    value = place[0][place[1]]
    place[0][place[1]] = chance.choice([[value], {'id': value}, str(value)])


def rename(place: Node, others: list[Node], chance: random.Random) -> None:
    if isinstance(place[0], dict):
        other = chance.choice([key for holder, key in others if isinstance(key, str)] or ['id'])
        place[0][other] = place[0].pop(place[1])


def shift(place: Node, others: list[Node], chance: random.Random) -> None:
    """Changes a number a little or a lot."""
    value = place[0][place[1]]
    if isinstance(value, (int, float)):
        change = chance.choice([lambda v: -v, lambda v: v + 1, lambda v: v * 1_000, float, int])
        place[0][place[1]] = change(value)
    else:
        place[0][place[1]] = chance.choice([0, 1, -1])


STRUCTURAL: tuple[Callable[[Node, list[Node], random.Random], None], ...] = (
    replace, replace, replace, remove, repeat, take, swap, wrap, rename, shift, shift,
)  # fmt: skip


def mutate_value(value: Any, chance: random.Random) -> Any:
    """Returns a copy of dicts, lists and scalars with one to four changes at random places."""
    holder = [copy.deepcopy(value)]
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        places = list(nodes(holder))
        place = places[0] if chance.random() < 0.01 else chance.choice(places[1:] or places)
        with suppress(OverflowError, ValueError):  # of int() of a NaN; it stays as it is
            chance.choice(STRUCTURAL)(place, places, chance)
        if not holder:
            return None
    return holder[0]


def to_json(value: Any, chance: random.Random) -> bytes:
    """Returns JSON, NaN and deep lists as some writers have them."""
    text = json.dumps(value)
    depth = chance.choice(DEPTHS)
    return text.replace(f'"{DEEP}"', '[' * depth + ']' * depth).encode()


def mutate_bytes(content: bytes, chance: random.Random) -> bytes:
    """Returns bytes with one to four flips, cuts, zeroed, repeated, inserted or removed blocks."""
    for _ in range(chance.choice([1, 1, 2, 4])):
        data = bytearray(content)
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice([1, 2, 8, 64, 512]))
        kind = chance.randrange(10)
        if kind <= 1 and start < len(data):
            data[start] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del data[start:]
        elif kind == 3:
            data[start:end] = bytes(end - start)
        elif kind == 4:
            data[start:start] = chance.randbytes(end - start)
        elif kind == 5:
            del data[start:end]
        elif kind == 6:
            data[start:start] = data[start:end]
        elif kind == 7:
            data[start:start] = chance.choice([b'\xff\xfe', b'\xc3', b'\xed\xa0\x80', b'\0', b'\n'])
        elif kind == 8:
            data[:0] = chance.choice([b'\xef\xbb\xbf', b'\xff\xfe', b'\0' * 16, b'\n' * 3])
        elif chance.random() < 0.2:
            data = bytearray(b'')
        content = bytes(data)
    return content


def mutate_text(text: str, chance: random.Random, canary: str) -> str:
    """Returns text with one to four tokens changed; some become code that would make a file."""
    for _ in range(chance.choice([1, 1, 2, 4])):
        tokens = re.findall(r'\w+|\s+|.', text, re.DOTALL)
        if not tokens:
            return text
        i, j = chance.randrange(len(tokens)), chance.randrange(len(tokens))
        kind = chance.randrange(7)
        if kind == 0:
            del tokens[i]
        elif kind == 1:
            tokens[i] = tokens[j]
        elif kind == 2:
            tokens[i], tokens[j] = tokens[j], tokens[i]
        elif kind == 3:
            tokens[i:i] = tokens[j : j + chance.choice([1, 5, 20])]
        elif kind == 4:
            tokens[i] = odd_text(chance)
        elif kind == 5:
            tokens[i] = payload(chance, canary)
        else:
            numbers = [k for k, token in enumerate(tokens) if token.isdigit()] or [i]
            tokens[chance.choice(numbers)] = odd_text(chance)
        text = ''.join(tokens)
    return text


def odd_text(chance: random.Random) -> str:
    """Returns a value as somebody may type it."""
    value = chance.choice(ODD)
    if value == DEEP:
        depth = chance.choice(DEPTHS)
        return '[' * depth + ']' * depth
    return value if isinstance(value, str) and chance.random() < 0.5 else repr(value)


def payload(chance: random.Random, canary: str) -> str:
    """Returns code that would make the file `canary`."""
    return chance.choice(PAYLOADS).format(canary=canary)


def encode(text: str) -> bytes:
    """Returns the bytes of a text, also of one that no encoding has."""
    return text.encode('utf-8', 'surrogatepass')
