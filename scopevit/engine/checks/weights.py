"""Checks that a checkpoint holds what a run needs, and that all its weights fit the model."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import nn

from scopevit.checkpoint import BACKBONE_OF, read_checkpoint
from scopevit.errors import InputError
from scopevit.state_dict import below_prefix, compare, describe, find_state_dict, strip_prefix

NAME_LENGTH, PATH_LENGTH = 255, 4096  # of files on Linux, in bytes


def read_weights(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint, its weights under `state_dict`, where mmengine looks.

    Raises:
        InputError: If the file cannot be read safely or holds no weights there.
    """
    return with_weights(read_checkpoint(path), path)


def read_resumable(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint from which a training can go on.

    Raises:
        InputError: If the file cannot be read, or holds no state of a training.
    """
    checkpoint = read_checkpoint(path)
    content = checkpoint if isinstance(checkpoint, Mapping) else {}
    missing = [key for key in ('meta', 'state_dict', 'message_hub') if key not in content]
    if not missing:
        meta = content['meta'] if isinstance(content['meta'], Mapping) else {}
        missing = [f'meta.{key}' for key in ('epoch', 'iter') if key not in meta]
    if missing:
        raise InputError(
            f'cannot resume from {path}, it has no {", ".join(missing)}; '
            'to start from its weights, set load_from'
        )
    return with_weights(checkpoint, path)


def with_weights(checkpoint: object, path: str | Path) -> dict[str, Any]:
    """Returns a checkpoint with its weights under `state_dict`, where hooks look for them."""
    state_dict = find_state_dict(checkpoint, ('state_dict',))
    if state_dict is None or not isinstance(checkpoint, Mapping):
        raise InputError(
            f'no weights in {path}: expected tensors by name, bare or under state_dict; '
            "for the authors' files see tools/model_converters"
        )
    others = checkpoint if 'state_dict' in checkpoint else {}
    return {**others, 'state_dict': state_dict}


class LastCheckpoint(NamedTuple):
    """A checkpoint from which a training goes on, and what was wrong with others."""

    path: Path
    content: dict[str, Any]
    skipped: list[str]


def read_last_checkpoint(
    work_dir: str | Path, out_dir: str | Path | None = None
) -> LastCheckpoint | None:
    """Finds and reads the checkpoint from which a training in `work_dir` goes on, if it wrote one.

    That is the one that `last_checkpoint` names, or else the newest of the others that is whole.

    Args:
        work_dir: Of the training.
        out_dir: That of its CheckpointHook, if it has one; no other folder is read.

    Raises:
        InputError: If there are checkpoints, but from none can a training go on.
    """
    skipped: list[str] = []
    for path in find_checkpoints(Path(work_dir), Path(out_dir or work_dir)):
        try:
            return LastCheckpoint(path, read_resumable(path), skipped)
        except InputError as error:
            skipped.append(str(error))
    if skipped:
        raise InputError(f'{"; ".join(skipped)}; to start anew, give another --work-dir')
    return None


def find_checkpoints(work_dir: Path, out_dir: Path) -> list[Path]:
    """Returns the checkpoints to go on from, the one that `last_checkpoint` names and the newest.

    Those have the names that a CheckpointHook gives by default: the best ones have no optimizer,
    and other files may be of something else.
    """
    folders = [work_dir]
    if out_dir.resolve() != work_dir.resolve():
        folders.append(out_dir / work_dir.resolve().name)  # where the hook writes to then
    others = [path for folder in folders for path in folder.glob('*.pth')]
    others = [path for path in others if re.fullmatch(r'(epoch|iter)_\d+|stopped', path.stem)]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    named = read_pointer(work_dir / 'last_checkpoint')
    if named is None:
        return others
    path = work_dir / named  # mmengine's own are whole paths
    if not any(is_file_in(path, folder) for folder in (work_dir, out_dir)):
        path = work_dir / named.name  # as in a folder that has been moved or copied since
    return [path, *(other for other in others if other != path)]


def is_file_in(path: Path, folder: Path) -> bool:
    """Whether there is a file of this path, and below a folder."""
    try:
        return path.is_file() and path.resolve().is_relative_to(folder.resolve())
    except OSError:  # as of a name that is too long
        return False


def read_pointer(path: Path) -> Path | None:
    """Returns what a file `last_checkpoint` names; None where it names nothing."""
    try:
        name = path.read_bytes()[:PATH_LENGTH].decode().strip()
    except (OSError, UnicodeDecodeError):
        return None
    is_name = name.isprintable() and 0 < len(Path(name).name.encode()) <= NAME_LENGTH
    return Path(name) if is_name else None


def check_model_weights(
    model: nn.Module, checkpoint: dict[str, Any], path: str | Path, only_backbone: bool = False
) -> None:
    """Checks that a checkpoint, from `read_weights`, fits a model without wrappers.

    With `only_backbone`, differences elsewhere, as of a head with other classes, are a warning.

    Raises:
        InputError: If weights are missing, unexpected or of another shape.
    """
    given = strip_prefix(checkpoint['state_dict'], 'module.', str(path))
    problems = compare(model.state_dict(), given)
    if only_backbone:
        elsewhere = [name for name in problems if not name.startswith('backbone.')]
        if elsewhere:
            report = describe({name: problems.pop(name) for name in elsewhere})
            print_log(
                f'{path} fits the backbone, but not the rest; not loaded: {report}',
                logger='current',
                level=logging.WARNING,
            )
    if problems:
        raise InputError(f'{path} does not fit the model; {describe(problems)}')


def check_pretrained(model: nn.Module) -> None:
    """Checks the files of every `init_cfg=dict(type='Pretrained', ...)`, as `check_init_cfg`."""
    for name, module in model.named_modules():
        init_cfgs = getattr(module, 'init_cfg', None) or []
        for init_cfg in [init_cfgs] if isinstance(init_cfgs, Mapping) else init_cfgs:
            if init_cfg['type'] in ('Pretrained', PretrainedInit):
                check_init_cfg(module, name, init_cfg.get('checkpoint'), init_cfg.get('prefix'))


def check_init_cfg(module: nn.Module, name: str, path: str | None, prefix: str | None) -> None:
    """Checks that a file has the weights of a module, and hands what it read to mmengine.

    Raises:
        InputError: If weights of the module are missing in the file (after `prefix`) or of another
            shape. Those it has beyond the module's, as of stages that `out_indices` leaves out, are
            no error; mmengine logs their names when it loads the rest.
    """
    if not path:
        raise InputError(f"init_cfg of {name} needs a 'checkpoint'")
    checkpoint = read_weights(path)
    if prefix is None:
        given = strip_prefix(checkpoint['state_dict'], 'module.', path)
    else:
        prefix = f'{prefix.rstrip(".")}.'
        given = below_prefix(checkpoint['state_dict'], prefix)
        if not given:
            raise InputError(f'no weights start with {prefix!r} in {path} (init_cfg of {name})')
    problems = compare(module.state_dict(), given)
    problems = {k: problem for k, problem in problems.items() if problem != 'unexpected'}
    if problems:
        path = path.removeprefix(BACKBONE_OF)
        raise InputError(f'{path} does not fit {name or "the model"}; {describe(problems)}')
    hand_over(path, checkpoint)


def hand_over(path: str, checkpoint: dict[str, Any]) -> None:
    """Lets mmengine take a checkpoint that was read, the next time that it loads its path."""
    held = [checkpoint]

    def load_from_memory(filename: str, map_location: object = None) -> dict[str, Any]:
        return held.pop() if held else read_weights(filename)  # it is large: nothing else keeps it

    CheckpointLoader.register_scheme(f'{re.escape(path)}$', load_from_memory, force=True)
