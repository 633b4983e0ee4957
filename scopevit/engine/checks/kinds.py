"""Checks that parts of a config are the dicts and lists that all who read them expect."""

from ast import literal_eval
from collections.abc import Iterator, Mapping
from datetime import date
from keyword import iskeyword
from typing import Any

from scopevit.errors import InputError

DICTS = (
    'model', 'model.backbone', 'model.data_preprocessor', 'data_preprocessor', 'default_hooks',
    'optim_wrapper', 'optim_wrapper.optimizer', 'randomness', 'train_dataloader', 'val_dataloader',
    'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg', 'model.train_cfg', 'model.test_cfg',
    'model.test_cfg.rpn', 'model.test_cfg.rpn.nms', 'model.test_cfg.rcnn',
    'model.test_cfg.rcnn.nms', 'model.test_cfg.nms',
)  # fmt: skip
LISTS_OF_DICTS = ('custom_hooks', 'tta_pipeline')


def check_kinds(cfg: Mapping[str, Any], source: str) -> None:
    """Checks the parts of a config that there are; `source` is its name, for messages.

    Raises:
        InputError: If one is something else than a dict, or a list of dicts; the message has its
            key.
    """
    check_names(dict(cfg.items()), '', source)
    for key in DICTS:
        holder, name = find_holder(cfg, key)
        if holder.get(name) is not None:
            check_dict(holder[name], key, source)
    seed = (cfg.get('randomness') or {}).get('seed')
    if seed is not None and type(seed) is not int:
        raise InputError(f'{source}: randomness.seed must be a whole number, not {seed!r}')
    for key in LISTS_OF_DICTS:
        check_list(cfg.get(key), key, source)
    for name, part in (cfg.get('model') or {}).items():
        if is_layers(name) and part is not None:
            check_layers(part, f'model.{name}', source)
    for mode in ('train', 'val', 'test'):
        loader = cfg.get(f'{mode}_dataloader') or {}
        for leaf, key in datasets(loader.get('dataset'), f'{mode}_dataloader.dataset', source):
            check_list(leaf.get('pipeline'), f'{key}.pipeline', source)
            for name in ('metainfo', 'filter_cfg'):
                if leaf.get(name) is not None:
                    check_dict(leaf[name], f'{key}.{name}', source)
        metrics = cfg.get(f'{mode}_evaluator')
        if not isinstance(metrics, Mapping):
            check_list(metrics, f'{mode}_evaluator', source)


def check_names(value: Any, key: str, source: str) -> None:
    """Checks that mmengine can write a part of a config as Python, which it does in every run.

    Raises:
        InputError: If a key is no name, or has a quote or line break in it, or a value is a date.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not is_written(name, is_top=not key):
                raise InputError(f'{source}: {name!r} cannot be a key{f" of {key}" * bool(key)}')
            check_names(item, f'{key}.{name}' if key else name, source)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            check_names(item, f'{key}.{i}', source)
    elif isinstance(value, date):
        raise InputError(f'{source}: {key} is a date; as a text it has quotes, "{value}"')


def is_written(name: Any, is_top: bool) -> bool:
    """Whether mmengine writes a key so that it can be read again."""
    if not isinstance(name, str):
        return not is_top and isinstance(name, (int, float, tuple)) and name == name
    if name.isidentifier():
        return not iskeyword(name)
    try:
        return not is_top and literal_eval(f"'{name}'") == name
    except (SyntaxError, ValueError):
        return False


def find_holder(cfg: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], str]:
    """Returns the part of a config that would hold a dotted key, and the last name of that."""
    *parents, name = key.split('.')
    for parent in parents:
        cfg = cfg.get(parent) or {}
    return cfg, name


def is_layers(name: str) -> bool:
    """Returns whether a part of a model is its neck or one of its heads, by its name."""
    return name in ('neck', 'head') or name.endswith('_head')


def check_layers(value: Any, key: str, source: str) -> None:
    """Raises an InputError where a value is neither a dict nor a list of dicts."""
    if isinstance(value, (list, tuple)):
        check_list(value, key, source)
    else:
        check_dict(value, key, source)


def datasets(value: Any, key: str, source: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yields the config of a data set and of those that it wraps, with their keys."""
    if value is None:
        return
    check_dict(value, key, source)
    yield value, key
    yield from datasets(value.get('dataset'), f'{key}.dataset', source)
    check_list(value.get('datasets'), f'{key}.datasets', source)
    for i, one in enumerate(value.get('datasets') or []):
        yield from datasets(one, f'{key}.datasets.{i}', source)


def check_list(value: Any, key: str, source: str) -> None:
    """Raises an InputError where a value is neither None nor a list of dicts."""
    if value is not None and not isinstance(value, (list, tuple)):
        raise InputError(f'{source}: {key} must be a list, not {value!r}')
    for i, one in enumerate(value or []):
        check_dict(one, f'{key}.{i}', source)


def check_dict(value: Any, key: str, source: str) -> None:
    """Raises an InputError where a value is no dict."""
    if not isinstance(value, Mapping):
        raise InputError(f'{source}: {key} must be a dict, not {value!r}')
