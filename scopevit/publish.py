"""Publishing: the weights of a checkpoint alone, in a file with their hash in its name."""

import hashlib
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from scopevit.checkpoint import read_checkpoint
from scopevit.errors import InputError
from scopevit.files import write_bytes
from scopevit.state_dict import below_prefix, is_state_dict, unwrap_state_dict


def publish_checkpoint(
    src: str | Path, out: str | Path, as_safetensors: bool = False, ema: bool | None = None
) -> Path:
    """Writes the weights of a checkpoint to a file with its hash in the name.

    The same weights and description of the classes give the same file.

    Args:
        src: Checkpoint of a training.
        out: File to write, without the hash: `scopevit-tiny_in1k` becomes
            `scopevit-tiny_in1k-1a2b3c4d.pth`.
        as_safetensors: Whether to write the weights alone as `.safetensors`.
        ema: Whether to take the moving average of the weights, or those without it; by default what
            `tools/test.py` takes.

    Returns:
        The file.

    Raises:
        InputError: If `src` cannot be read or has no such weights, or the file cannot be written.
    """
    checkpoint = read_checkpoint(src)
    weights = {
        # Parts of larger tensors would be stored with all of those.
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in sorted(choose_weights(checkpoint, src, ema).items())
    }
    if as_safetensors:
        content = safetensors.torch.save(weights, metadata={'format': 'pt'})
    else:
        buffer = io.BytesIO()  # a file's own name would become part of its content
        torch.save({'meta': published_meta(checkpoint), 'state_dict': weights}, buffer)
        content = buffer.getvalue()
    return write_hashed(content, out, '.safetensors' if as_safetensors else '.pth')


def choose_weights(checkpoint: object, path: str | Path, ema: bool | None) -> dict[str, Tensor]:
    """Returns the weights of a checkpoint, with or without the moving average that EMAHook keeps.

    EMAHook stores the average under `state_dict`, where tests find it, and under `ema_state_dict`
    the weights of which it is the average.
    """
    weights = unwrap_state_dict(checkpoint, path)
    current = checkpoint.get('ema_state_dict') if isinstance(checkpoint, Mapping) else None
    if is_state_dict(current):
        # Beside the weights, it holds the number of steps.
        return weights | below_prefix(current, 'module.') if ema is False else weights
    if ema:
        raise InputError(f'--ema: {path} has no moving average (ema_state_dict)')
    return weights


def published_meta(checkpoint: object) -> dict[str, object]:
    """Returns what a checkpoint says about its classes; the rest is about a run and its files."""
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    dataset_meta = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    return {'dataset_meta': to_plain(dataset_meta)} if dataset_meta else {}


def to_plain(value: Any) -> object:
    """Returns a value with lists for arrays, which any `torch.load` reads."""
    if isinstance(value, str):
        return sys.intern(value)  # a file tells equal strings from one that is there twice
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_plain(item) for item in value)
    return value.tolist() if hasattr(value, 'tolist') else value


def write_hashed(content: bytes, out: str | Path, suffix: str) -> Path:
    """Writes a file with the start of its sha256 in the name, whole or not at all.

    Raises:
        InputError: If another file has that name, or it cannot be written.
    """
    out = Path(out)
    stem = out.name.removesuffix(suffix)
    path = out.with_name(f'{stem}-{hashlib.sha256(content).hexdigest()[:8]}{suffix}')
    if not path.exists():
        write_bytes(path, content)
    elif not path.is_file() or path.read_bytes() != content:
        raise InputError(f'another file is there already: {path}')
    return path
