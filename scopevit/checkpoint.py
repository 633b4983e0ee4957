"""Reading checkpoints from anywhere, without running anything in them."""

import argparse
import hashlib
import pickle
import re
import struct
import sys
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import safetensors.torch
import torch

from scopevit.errors import InputError
from scopevit.files import replacing

# Names of checkpoints elsewhere, which mmengine looks up in its tables of URLs.
ZOOS = ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls')
EXPORTED = ('.onnx', '.xml')  # files of `scopevit export` that take the place of a checkpoint
BACKBONE_OF = 'backbone://'  # before a checkpoint: only its backbone, see `read_checkpoint`
SECONDS = 60  # without a byte, until a download is given up
LARGEST = 20 * 2**30  # bytes that are downloaded at most
BLOCK = 2**20


def is_exported(path: str | Path) -> bool:
    """Whether a file is an export that takes the place of a checkpoint, by its ending."""
    return Path(path).suffix in EXPORTED


def read_checkpoint(path: str | Path) -> object:
    """Reads a checkpoint, onto the CPU, as data only.

    Args:
        path: A file that `torch.save` wrote, or weights alone that end in `.safetensors`; or where
            to download one, `https://...`, or as `torchvision://resnet50` where mmengine knows it.
            With `backbone://` before one of these, of a classifier or of a bare backbone.

    Returns:
        What was saved, a dict as a rule. For `backbone://` the weights of the backbone by their
        names here, under `state_dict`.

    Raises:
        InputError: If the file is missing, not to be read, truncated, not a checkpoint, or holds
            objects that would run code.
    """
    scheme, separator, rest = str(path).partition('://')
    if not separator:
        return read_file(Path(path).expanduser())
    if scheme in ('http', 'https'):
        return read_file(download(str(path)))
    if scheme == 'file':
        return read_file(Path(rest))
    if scheme == BACKBONE_OF.partition(':')[0]:
        from scopevit.models.convert import backbone_weights  # which imports this module

        return {'state_dict': backbone_weights(read_checkpoint(rest), rest)}
    if scheme in ZOOS:
        return read_from_zoo(str(path))
    raise InputError(f'cannot read {path}: give a file or an address that begins with https://')


def read_file(path: Path) -> object:
    """Reads a checkpoint file, see `read_checkpoint`."""
    if path.suffix == '.pt2':
        raise InputError(
            f'{path}: torch.export.load may run code that a .pt2 has in it, so it is not opened; '
            f'{" and ".join(EXPORTED)} of scopevit export are'
        )
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
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise InputError(f'not a safetensors file, or a damaged one: {path}') from error
    check_sums(path)
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
    except MemoryError as error:
        raise InputError(f'more memory than there is for {path}, or a damaged file') from error
    # Whatever a pickle's reader says to bytes that are none.
    except (AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError,
            TypeError, ValueError, struct.error) as error:  # fmt: skip
        raise InputError(f'not a checkpoint of torch.save, or a damaged one: {path}') from error


def check_sums(path: Path) -> None:
    """Compares the checksums in a file of `torch.save`, a zip archive, which torch does not.

    Raises:
        InputError: If one is another: a bit of the weights has changed.
    """
    if not zipfile.is_zipfile(path):  # before torch 1.6, files were none
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    # Whatever its reader says to bytes that are none.
    except (EOFError, NotImplementedError, OSError, RuntimeError, ValueError, struct.error,
            zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise InputError(f'not a checkpoint of torch.save, or a damaged one: {path}') from error
    if damaged:
        raise InputError(f'damaged, the checksum of {damaged} in it is another: {path}')


def read_from_zoo(name: str) -> object:
    """Reads a checkpoint by a name that mmengine knows, see `read_checkpoint`."""
    from mmengine.runner import CheckpointLoader  # which downloads by `read_checkpoint`

    try:
        return CheckpointLoader.load_checkpoint(name, map_location='cpu')
    except (KeyError, FileNotFoundError) as error:
        raise InputError(f'mmengine knows no checkpoint of this name: {name}') from error


def download(url: str) -> Path:
    """Downloads a file into torch's cache, `checkpoints` in `torch.hub.get_dir()`.

    The first digits of its sha256 may end the name, as in `tiny-1a2b3c4d.pth`. Without them another
    address may have the same name, so that the file has a folder of its own. The file of an earlier
    download is taken, if there was one.

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
                while block := response.read(BLOCK):
                    file.write(block)
                    if file.tell() > LARGEST:
                        raise InputError(f'{url} has more than {LARGEST >> 30} GiB')
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
