"""Checks that parts of a config are the dicts and lists that all who read them expect."""

from collections.abc import Iterator, Mapping
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
