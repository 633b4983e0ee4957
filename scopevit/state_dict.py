"""Weights by name: where they are in a checkpoint, and how they differ from a model's."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

from torch import Tensor

from scopevit.errors import InputError

KEYS = ('state_dict', 'model', 'state_dict_ema')  # where training scripts put weights
SHOWN = 5  # names of each kind in a message


def unwrap_state_dict(checkpoint: object, path: str | Path, ema: bool = False) -> dict[str, Tensor]:
    """Finds the weights in a checkpoint: bare, or under the usual keys, perhaps with a prefix.

    Args:
        checkpoint: What `read_checkpoint` returned.
        path: Where it came from, for messages.
        ema: Whether to take the moving average where the file has one.

    Returns:
        Weights by name, without a leading `module.`.
    """
    state_dict = find_state_dict(checkpoint, KEYS[::-1] if ema else KEYS)
    if state_dict is None:
        raise InputError(
            f'no weights in {path}: expected tensors by name, bare or under state_dict, '
            'state_dict_ema or model'
        )
    return strip_prefix(state_dict, 'module.', str(path))


def find_state_dict(checkpoint: object, keys: tuple[str, ...]) -> dict[str, Tensor] | None:
    """Returns the weights under the first of some keys that a checkpoint has, or the bare ones."""
    state_dict = checkpoint
    if isinstance(checkpoint, Mapping):
        found = [checkpoint[key] for key in keys if isinstance(checkpoint.get(key), Mapping)]
        state_dict = found[0] if found else checkpoint
    return dict(state_dict) if is_state_dict(state_dict) else None


def is_state_dict(value: object) -> TypeGuard[Mapping[str, Tensor]]:
    """Whether a value out of a checkpoint is tensors by name, one at least."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def strip_prefix(
    state_dict: Mapping[str, Tensor], prefix: str, source: str = 'the checkpoint'
) -> dict[str, Tensor]:
    """Returns a copy whose names have lost `prefix`, where they had it; `source` is for messages.

    Raises:
        InputError: If a name is there both with the prefix and without.
    """
    stripped: dict[str, Tensor] = {}
    for name, value in state_dict.items():
        short = name.removeprefix(prefix)
        if short in stripped:
            raise InputError(f'{source} has both {short} and {prefix}{short}')
        stripped[short] = value
    return stripped


def below_prefix(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Returns the weights whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}


def compare(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, str]:
    """Returns what is wrong with each name: 'missing', 'unexpected' or the two shapes."""
    problems = {}
    for name, value in expected.items():
        if name not in given:
            # Checkpoints of early torch lack these counts; only norms without momentum read them.
            if not name.endswith('num_batches_tracked'):
                problems[name] = 'missing'
        elif given[name].shape != value.shape:
            problems[name] = f'{tuple(given[name].shape)} instead of {tuple(value.shape)}'
    return problems | {name: 'unexpected' for name in given if name not in expected}


def by_kind(problems: Mapping[str, str]) -> dict[str, list[str]]:
    """Returns the names that `compare` found by the kind of problem, with the shapes behind."""
    kinds: dict[str, list[str]] = {'missing': [], 'unexpected': [], 'of another shape': []}
    for name, problem in problems.items():
        if problem in kinds:
            kinds[problem].append(name)
        else:
            kinds['of another shape'].append(f'{name} {problem}')
    return {kind: names for kind, names in kinds.items() if names}


def describe(problems: Mapping[str, str]) -> str:
    """Returns a line with the first names of each kind and the number of all."""
    return '; '.join(
        f'{len(names)} {kind}: {", ".join(names[:SHOWN])}{", ..." if len(names) > SHOWN else ""}'
        for kind, names in by_kind(problems).items()
    )
