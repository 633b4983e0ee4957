"""Publishing: what prediction needs of a checkpoint, in a file with its hash in its name."""

import hashlib
import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from mmengine.config import Config
from torch import Tensor

from scopevit.checkpoint import read_checkpoint
from scopevit.errors import InputError
from scopevit.files import write_bytes
from scopevit.inference.recipe import find_test
from scopevit.inference.stored_config import stored_config, without_initial_weights
from scopevit.state_dict import below_prefix, is_state_dict, unwrap_state_dict

# What prediction takes of a config, of the data set of its test, and of no step of a pipeline.
CONFIG_KEYS = ('custom_imports', 'default_scope', 'model', 'data_preprocessor')
DATASET_KEYS = ('type', 'metainfo', 'data_mode', 'pipeline')
STORAGE = 'backend_args'  # a server's address, and perhaps what opens it
# Of a machine: /home, ~/data, C:\data, s3://bucket.
PLACE = re.compile(r'[/~\\]|[A-Za-z]:[/\\]|\w+://')


def publish_checkpoint(
    src: str | Path, out: str | Path, as_safetensors: bool = False, ema: bool | None = None
) -> Path:
    """Writes the weights of a checkpoint to a file with its hash in the name.

    The description of the classes and what prediction takes of the config go along, see
    `published_config`. The same of all three give the same file.

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
        torch.save({'meta': published_meta(checkpoint, Path(src)), 'state_dict': weights}, buffer)
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


def published_meta(checkpoint: object, path: Path) -> dict[str, object]:
    """Returns what prediction needs besides weights; the rest is about a run and its files."""
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    if not isinstance(meta, Mapping):
        return {}
    config = published_config(meta['cfg'], path) if isinstance(meta.get('cfg'), str) else ''
    found = {'cfg': config, 'dataset_meta': to_plain(meta.get('dataset_meta'))}
    return {key: value for key, value in found.items() if value}


def published_config(text: str, path: Path) -> str:
    """Returns what prediction takes of a config, without places on a machine.

    Args:
        text: The config, as mmengine stores it in a checkpoint.
        path: The checkpoint, for messages.

    Returns:
        The text of a config; none of one that prediction would refuse: it is more than data, or has
        no model or no pipeline of a test.
    """
    if not text.strip():
        return ''
    try:
        cfg = stored_config(text, path)
    except InputError:
        return ''
    loader, dataset = find_test(cfg)
    if not isinstance(cfg.get('model'), Mapping) or not dataset.get('pipeline'):
        return ''
    kept = {key: cfg[key] for key in CONFIG_KEYS if key in cfg}
    kept['model'] = without_initial_weights(kept['model'])
    kept['test_dataloader'] = {
        'batch_size': loader.get('batch_size') or 1,
        'dataset': {key: dataset[key] for key in DATASET_KEYS if key in dataset},
    }
    return str(Config(without_places(kept)).pretty_text)


def without_places(value: Any) -> Any:
    """Returns a part of a config without values that are places on a machine or a server."""
    if isinstance(value, (list, tuple)):
        return type(value)(without_places(item) for item in value if not is_place(item))
    if not isinstance(value, dict):
        return value
    return {
        key: without_places(item)
        for key, item in value.items()
        if key != STORAGE and not is_place(item)
    }


def is_place(value: object) -> bool:
    """Whether a value is an absolute path, or an address."""
    return isinstance(value, str) and PLACE.match(value) is not None


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
