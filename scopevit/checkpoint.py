"""Reading checkpoint files from anywhere without running anything that is in them."""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from scopevit.errors import InputError


def read_checkpoint(path: str | Path) -> object:
    """Reads a checkpoint file, onto the CPU, as data only.

    Args:
        path (str | Path): A file that `torch.save` wrote.

    Returns:
        object: What was saved, a dict as a rule.

    Raises:
        InputError: If the file is missing, not to be read, truncated, not a checkpoint, or holds
            objects that would run code.
    """
    path = Path(path)
    try:
        # What the system says; torch raises OSError for damaged files, too.
        with path.open('rb'):
            pass
    except FileNotFoundError as error:
        raise InputError(f'checkpoint not found: {path}') from error
    except OSError as error:
        raise InputError(f'cannot read {path}: {error.strerror}') from error
    try:
        # timm's training scripts, and so the authors', keep their parsed arguments beside the
        # weights; a Namespace holds values and runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search('unsupported (global|class)|is blocked', str(error), re.IGNORECASE):
            raise InputError(
                f'checkpoint refused, it holds objects that could run code: {path}; '
                'it should hold tensors, numbers and text only'
            ) from error
        raise InputError(f'not a checkpoint of torch.save, or a damaged one: {path}') from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError) as error:
        raise InputError(f'not a checkpoint of torch.save, or a damaged one: {path}') from error


def unwrap_state_dict(checkpoint: object, path: str | Path, ema: bool = False) -> dict[str, Tensor]:
    """Finds the weights in a checkpoint: bare, or under the usual keys, perhaps with a prefix.

    Args:
        checkpoint (object): What `read_checkpoint` returned.
        path (str | Path): Where it came from, for messages.
        ema (bool): Whether to take the moving average where the file has one.

    Returns:
        dict[str, Tensor]: Weights by name, without a leading `module.`.
    """
    state_dict = checkpoint
    if isinstance(checkpoint, Mapping):
        keys = ['state_dict', 'model', 'state_dict_ema']
        for key in keys[::-1] if ema else keys:
            if isinstance(checkpoint.get(key), Mapping):
                state_dict = checkpoint[key]
                break
    if not is_state_dict(state_dict):
        raise InputError(
            f'no weights in {path}: expected tensors by name, bare or under state_dict, '
            'state_dict_ema or model'
        )
    return strip_prefix(state_dict, 'module.')


def is_state_dict(value: object) -> bool:
    """Whether a value out of a checkpoint is tensors by name, one at least."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def strip_prefix(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Returns a copy whose names have lost `prefix`, where they had it.

    Raises:
        InputError: If a name is there both with the prefix and without.
    """
    stripped = {}
    for name, value in state_dict.items():
        short = name.removeprefix(prefix)
        if short in stripped:
            raise InputError(f'the checkpoint has both {short} and {prefix}{short}')
        stripped[short] = value
    return stripped
