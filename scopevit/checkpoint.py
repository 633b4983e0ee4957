"""Reading checkpoint files from anywhere without running anything in them, and publishing them."""

import argparse
import hashlib
import io
import pickle
import re
import shutil
import sys
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import safetensors.torch
import torch
from torch import Tensor

from scopevit.errors import InputError
from scopevit.files import replacing, write_bytes

# Names of checkpoints elsewhere, which mmengine looks up in its tables of URLs.
ZOOS = ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls')
SECONDS = 60  # without a byte, until a download is given up


def read_checkpoint(path: str | Path) -> object:
    """Reads a checkpoint, onto the CPU, as data only.

    Args:
        path: A file that `torch.save` wrote, or weights alone that end in `.safetensors`; or where
            to download one, `https://...`, or as `torchvision://resnet50` where mmengine knows it.

    Returns:
        What was saved, a dict as a rule; weights alone under `state_dict`.

    Raises:
        InputError: If the file is missing, not to be read, truncated, not a checkpoint, or holds
            objects that would run code.
    """
    scheme, separator, rest = str(path).partition('://')
    if not separator:
        return read_file(Path(path))
    if scheme in ('http', 'https'):
        return read_file(download(str(path)))
    if scheme == 'file':
        return read_file(Path(rest))
    if scheme in ZOOS:
        return read_from_zoo(str(path))
    raise InputError(f'cannot read {path}: give a file or an address that begins with https://')


def read_file(path: Path) -> object:
    """Reads a checkpoint file, see `read_checkpoint`."""
    try:
        # What the system says; torch raises OSError for damaged files, too.
        with path.open('rb'):
            pass
    except FileNotFoundError as error:
        raise InputError(f'checkpoint not found: {path}') from error
    except OSError as error:
        raise InputError(f'cannot read {path}: {error.strerror}') from error
    if path.suffix == '.safetensors':
        try:
            return {'state_dict': safetensors.torch.load_file(path)}
        except (safetensors.SafetensorError, OSError) as error:
            raise InputError(f'not a safetensors file, or a damaged one: {path}') from error
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


def read_from_zoo(name: str) -> object:
    """Reads a checkpoint by a name that mmengine knows, see `read_checkpoint`."""
    from mmengine.runner import CheckpointLoader  # which downloads by `read_checkpoint`

    try:
        return CheckpointLoader.load_checkpoint(name, map_location='cpu')
    except (KeyError, FileNotFoundError) as error:
        raise InputError(f'mmengine knows no checkpoint of this name: {name}') from error


def download(url: str) -> Path:
    """Downloads a file into torch's cache, `checkpoints` in `torch.hub.get_dir()`.

    Args:
        url: Its address. The first digits of its sha256 may end the name, as in
            `tiny-1a2b3c4d.pth`. Without them another address may have the same name, so that the
            file has a folder of its own.

    Returns:
        The file, from an earlier download if there was one.

    Raises:
        InputError: If it does not come, or not whole, or has another hash.
    """
    name = Path(urlsplit(url).path).name
    if not name.strip('.'):
        raise InputError(f'no name of a file at the end of {url}')
    digits = re.search(r'-([0-9a-f]{8,64})\.[^-]*$', name)
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    if not digits:
        folder /= hashlib.sha256(url.encode()).hexdigest()[:8]
    path = folder / name
    if path.is_file():
        return path
    print(f'downloading {url} to {path}', file=sys.stderr)
    with replacing(path) as part:
        try:
            request = Request(url, headers={'User-Agent': 'scopevit'})  # some refuse Python's own
            with urlopen(request, timeout=SECONDS) as response, part.open('wb') as file:
                shutil.copyfileobj(response, file)
                if response.length:
                    raise InputError(f'{response.length} bytes are missing at its end')
        except (OSError, HTTPException, ValueError) as error:
            raise InputError(f'cannot download {url}: {error}') from error
        if digits and not hashlib.sha256(part.read_bytes()).hexdigest().startswith(digits[1]):
            raise InputError(
                f'the sha256 of what came from {url} does not begin with {digits[1]}; if that is '
                'no hash, download the file and give its path'
            )
    return path


def unwrap_state_dict(checkpoint: object, path: str | Path, ema: bool = False) -> dict[str, Tensor]:
    """Finds the weights in a checkpoint: bare, or under the usual keys, perhaps with a prefix.

    Args:
        checkpoint: What `read_checkpoint` returned.
        path: Where it came from, for messages.
        ema: Whether to take the moving average where the file has one.

    Returns:
        Weights by name, without a leading `module.`.
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
        ema: Whether to take the moving average of the weights, or those without it;
            by default what `tools/test.py` takes.

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


def choose_weights(
    checkpoint: object, path: str | Path, ema: bool | None = None
) -> dict[str, Tensor]:
    """Returns the weights of a checkpoint, with or without the moving average that EMAHook keeps.

    EMAHook stores the average under `state_dict`, where tests find it, and under `ema_state_dict`
    the weights of which it is the average.

    Args:
        checkpoint: What `read_checkpoint` returned.
        path: Where it came from, for messages.
        ema: As in `publish_checkpoint`.
    """
    weights = unwrap_state_dict(checkpoint, path)
    current = checkpoint.get('ema_state_dict')
    averaged = is_state_dict(current)
    if ema and not averaged:
        raise InputError(f'--ema: {path} has no moving average (ema_state_dict)')
    if averaged and ema is False:
        # Beside the weights, it holds the number of steps.
        current = {name: value for name, value in current.items() if name.startswith('module.')}
        weights |= strip_prefix(current, 'module.')
    return weights


def published_meta(checkpoint: Mapping) -> dict:
    """Returns what a checkpoint says about its classes; the rest is about a run and its files."""
    meta = checkpoint.get('meta')
    dataset_meta = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    return {'dataset_meta': to_plain(dataset_meta)} if dataset_meta else {}


def to_plain(value: object) -> object:
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
