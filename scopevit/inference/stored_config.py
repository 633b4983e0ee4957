"""The config that mmengine stores in a checkpoint, read as data: a stranger's runs no code."""

import ast
import math
import re
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry

from scopevit.engine.libraries import LIBRARIES, find_library
from scopevit.errors import InputError

# What is imported anyway, and so what `custom_imports` may name.
OURS = ('mmcv', 'mmengine', 'scopevit', *LIBRARIES)
NUMBERS = {'inf': math.inf, 'nan': math.nan}  # as mmengine writes them
# Registered types that fetch code of a model from a hub and run it.
FETCH_CODE = ('Auto', 'HuggingFace')
# Values that mmdet and mmpretrain evaluate as expressions: names alone are let through.
EVALUATED = ('dtype', 'warp_mode')
# What a config says of weights to start a training with; the checkpoint has them all.
INITIAL_WEIGHTS = ('init_cfg', 'pretrained')


def parse_config(text: str, source: str) -> dict[str, Any]:
    """Reads a config out of assignments of literals, `dict(...)` calls and names defined before.

    Args:
        text: The config, as mmengine writes it.
        source: Where it came from, for messages.

    Raises:
        InputError: If it holds anything else; the message names the line.
    """
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, 'lineno', None) or 1
        raise InputError(f'{source}: line {line}: this is no config') from error
    names: dict[str, Any] = {}
    for statement in module.body:
        match statement:
            case ast.Expr(value=ast.Constant(value=str())):  # a docstring
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names[name] = read_value(value, names, source)
            case _:
                raise code_error(statement, source)
    if '_base_' in names:
        raise InputError(f'{source}: it inherits from other files (_base_): name it by --config')
    return names


def read_value(node: ast.expr, names: dict[str, Any], source: str) -> Any:
    """Returns the value of an expression, see `parse_config`; `names` are those defined before."""

    def read(child: ast.expr) -> Any:
        return read_value(child, names, source)

    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in NUMBERS | names:
            return (NUMBERS | names)[name]
        case ast.List(elts=children):
            return [read(child) for child in children]
        case ast.Tuple(elts=children):
            return tuple(read(child) for child in children)
        case ast.Dict(keys=keys, values=values):
            # `**other` has no key.
            pairs = [(key and ast.literal_eval(key), key is None) for key in keys if is_plain(key)]
            if len(pairs) == len(values):
                return merge_dicts(pairs, [read(child) for child in values], node, source)
        # So mmengine writes keys that are numbers, as those of a skeleton: dict({0: ...}).
        case ast.Call(func=ast.Name(id='dict'), args=[] | [ast.Dict()] as whole, keywords=words):
            pairs = [*((None, True) for _ in whole), *((w.arg, w.arg is None) for w in words)]
            values = [read(child) for child in (*whole, *(word.value for word in words))]
            return merge_dicts(pairs, values, node, source)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id=name)) if name in NUMBERS:
            return -NUMBERS[name]
    raise code_error(node, source)


def is_plain(key: ast.expr | None) -> bool:
    """Whether the key of a dict is a number or text, as is no key at all."""
    match key:
        case None | ast.Constant() | ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
            return True
    return False


def merge_dicts(
    pairs: list[tuple[Any, bool]], values: list[Any], node: ast.expr, source: str
) -> dict[Any, Any]:
    """Returns the dict of keys and values; a key that is marked stands for all of its value's."""
    merged: dict[Any, Any] = {}
    for (key, is_whole), value in zip(pairs, values):
        if is_whole and not isinstance(value, dict):
            raise code_error(node, source)
        merged |= value if is_whole else {key: value}
    return merged


def code_error(node: ast.stmt | ast.expr, source: str) -> InputError:
    """Returns the error for a node that is more than data."""
    text = ' '.join(ast.unparse(node).split())
    short = text if len(text) <= 60 else f'{text[:57]}...'
    return InputError(
        f'{source}: line {node.lineno}: `{short}` is code, and a config that comes with a '
        'checkpoint is read as data only; name a config file that you trust by --config'
    )


def stored_config(text: str, path: Path) -> Config:
    """Returns the config in a checkpoint, or of a file that came with it.

    What is built of it goes through `registered_types` before.

    Args:
        text: Its text.
        path: The checkpoint or the file, for messages.

    Raises:
        InputError: If it holds code, or would import what is none of the libraries'.
    """
    source = str(path) if path.suffix == '.py' else f'config in {path}'
    content = parse_config(text, source)
    imports = content.get('custom_imports') or {}
    names = imports.get('imports') if isinstance(imports, dict) else imports
    for name in [names] if isinstance(names, str) else names or []:
        if str(name).partition('.')[0] not in OURS:
            raise InputError(
                f'{source}: custom_imports of {name!r}: a checkpoint imports nothing but '
                f'{", ".join(OURS)}; name a config file that you trust by --config'
            )
    try:
        return Config(content, cfg_text=text, filename=source)
    except (KeyError, TypeError) as error:
        raise InputError(f'{source}: {error.args[0]}') from error


def registered_types(value: Any, source: str) -> Any:
    """Returns a part of a config whose types are all registered ones, by their short names.

    mmengine imports what it does not know, whatever it is, and calls it.

    Raises:
        InputError: If a type is not registered; `source` is the config.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(registered_types(item, source) for item in value)
    if not isinstance(value, dict):
        return value
    part = {key: registered_types(item, source) for key, item in value.items()}
    if isinstance(part.get('type'), str):
        part['type'] = registered_name(part['type'], source)
    for key in EVALUATED:
        if isinstance(part.get(key), str) and not re.fullmatch(r'[\w.]+', part[key]):
            raise InputError(f'{source}: {key}={part[key]!r} is no name')
    if part.get('_scope_') not in (None, *OURS):
        raise InputError(f'{source}: _scope_={part["_scope_"]!r} is none of {", ".join(OURS)}')
    return part


def registered_name(name: str, source: str) -> str:
    """Returns the name of a type in the registries of the libraries, with its library before it."""
    root, _, path = name.partition('.')
    short = path.rpartition('.')[2] or root
    if path and root in LIBRARIES:
        find_library(root)
    if (path and root not in OURS) or short not in registered() or short.startswith(FETCH_CODE):
        raise InputError(
            f'{source}: type {name!r} is none that the libraries have; name a config file that you '
            'trust by --config'
        )
    return f'{root}.{short}' if path and root in LIBRARIES else short


def registered() -> set[str]:
    """Returns the names of all types that are registered by now, or operators of mmcv."""
    loaded = [f'{name}.registry' for name in ('mmengine', *LIBRARIES)]
    modules = [vars(sys.modules[name]) for name in loaded if name in sys.modules]
    registries = [r for module in modules for r in module.values() if isinstance(r, Registry)]
    operators = vars(sys.modules['mmcv.ops']) if 'mmcv.ops' in sys.modules else {}
    names = {name for name, value in operators.items() if callable(value)}
    return names.union(*(registry.module_dict for registry in registries))


def without_initial_weights(value: Any) -> Any:
    """Returns the config of a model that asks for no weights but those it will be given."""
    if isinstance(value, (list, tuple)):
        return type(value)(without_initial_weights(item) for item in value)
    if not isinstance(value, dict):
        return value
    return {
        key: without_initial_weights(item)
        for key, item in value.items()
        if key not in INITIAL_WEIGHTS
    }
