"""Whose mmcv's operators are: compiled, of torchvision, of plain torch, or nobody's."""

import ast
import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any

EXTENSION = 'mmcv._ext'
# What the stand-in's operators call that are torchvision's.
OF_TORCHVISION = 'torchvision_operators'


def describe_operators() -> dict[str, Any]:
    """Imports mmcv's operators and says whose each is that `mmcv.ops` asks for.

    Returns:
        `compiled`, whether there is a compiled extension; `file`, where it is, or its stand-in; the
        names of the operators of the stand-in by whose they are, `torchvision` and `torch`; and
        `missing`, those that neither has.
    """
    extension = import_module(EXTENSION)
    file = str(extension.__file__)
    compiled = not file.endswith('.py')
    found: dict[str, Any] = dict(compiled=compiled, file=file, torchvision=[], torch=[], missing=[])
    for name in asked_for():
        # not getattr: the stand-in answers to any name, with a function that says what to install
        operator = vars(extension).get(name)
        if not callable(operator):
            found['missing'].append(name)
        elif not compiled:
            found['torchvision' if is_of_torchvision(operator) else 'torch'].append(name)
    return found


def asked_for() -> list[str]:
    """Returns the operators that the modules of `mmcv.ops` load, by their source."""
    spec = find_spec('mmcv.ops')
    folder = Path(spec.origin).parent if spec and spec.origin else None
    names: set[str] = set()
    for path in folder.glob('*.py') if folder else ():
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            match node:
                case ast.Call(func=ast.Attribute(attr='load_ext'), args=[_, ast.List(elts=elts)]):
                    names.update(str(e.value) for e in elts if isinstance(e, ast.Constant))
    return sorted(name for name in names if not name.startswith('get_'))  # of a compiler


def is_of_torchvision(operator: Callable[..., Any]) -> bool:
    """Whether an operator of the stand-in, or what it calls there, calls torchvision's."""
    pending: list[Any] = [operator]
    seen: set[int] = set()
    while pending:
        function = inspect.unwrap(pending.pop())
        if isinstance(function, type):
            pending += [getattr(f, '__func__', f) for f in vars(function).values() if callable(f)]
        if not inspect.isfunction(function) or id(function) in seen:
            continue
        seen.add(id(function))
        names = set(names_in(function.__code__))
        if OF_TORCHVISION in names:
            return True
        called = [function.__globals__[name] for name in names if name in function.__globals__]
        pending += [c for c in called if (getattr(c, '__module__', '') or '').startswith(EXTENSION)]
    return False


def names_in(code: CodeType) -> Iterator[str]:
    """Yields the global names and attributes in the code of a function and of those inside."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


def operators_text(found: dict[str, Any]) -> str:
    """Says in one line what `describe_operators` found."""
    if found['compiled']:
        return f'compiled, {found["file"]}'
    whose = [f'of {name}: {", ".join(found[name])}' for name in ('torchvision', 'torch')]
    return f'not compiled; {"; ".join(whose)}; missing: {", ".join(found["missing"]) or "none"}'
