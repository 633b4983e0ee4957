"""Checks that the weights of a checkpoint fit a model, all of them."""

import logging
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from torch import Tensor, nn

from scopevit.checkpoint import is_state_dict, read_checkpoint, strip_prefix
from scopevit.errors import InputError

SHOWN = 5  # names of each kind in a message


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Reads the weights that mmengine would find in a checkpoint file.

    Raises:
        InputError: If the file cannot be read safely or holds no weights where mmengine looks.
    """
    checkpoint = read_checkpoint(path)
    state_dict = checkpoint
    if isinstance(checkpoint, Mapping):
        state_dict = checkpoint.get('state_dict', checkpoint)
    if not is_state_dict(state_dict):
        raise InputError(
            f'no weights in {path}: expected tensors by name, bare or under state_dict; '
            "for the authors' files see tools/model_converters"
        )
    return dict(state_dict)


def check_model_weights(model: nn.Module, path: str | Path, only_backbone: bool = False) -> None:
    """Checks that a checkpoint fits a model.

    Args:
        model: Model without wrappers.
        path: Checkpoint file.
        only_backbone: Whether differences outside of the backbone, as those of a head with
            other classes, are a warning.

    Raises:
        InputError: If weights are missing, unexpected or of another shape.
    """
    problems = compare(model.state_dict(), strip_prefix(read_state_dict(path), 'module.'))
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
    """Checks the files of every `init_cfg=dict(type='Pretrained', ...)` in a model.

    Raises:
        InputError: If weights of the module are missing in the file (after `prefix`) or of another
            shape. Those it has beyond the module's, as of stages that `out_indices` leaves out,
            are no error; mmengine logs their names when it loads the rest.
    """
    for name, module in model.named_modules():
        init_cfgs = getattr(module, 'init_cfg', None) or []
        for init_cfg in [init_cfgs] if isinstance(init_cfgs, Mapping) else init_cfgs:
            if init_cfg['type'] not in ('Pretrained', PretrainedInit):
                continue
            path, prefix = init_cfg.get('checkpoint'), init_cfg.get('prefix')
            if not path:
                raise InputError(f"init_cfg of {name} needs a 'checkpoint'")
            given = read_state_dict(path)
            if prefix is None:
                given = strip_prefix(given, 'module.')
            else:
                prefix = f'{prefix.rstrip(".")}.'
                given = {
                    k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)
                }
                if not given:
                    raise InputError(
                        f'no weights start with {prefix!r} in {path} (init_cfg of {name})'
                    )
            problems = compare(module.state_dict(), given)
            problems = {k: problem for k, problem in problems.items() if problem != 'unexpected'}
            if problems:
                raise InputError(f'{path} does not fit {name or "the model"}; {describe(problems)}')


def check_resumable(path: str | Path) -> None:
    """Checks that a training can go on from a checkpoint file.

    Raises:
        InputError: If the file cannot be read, or holds no state of a training.
    """
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, Mapping):
        checkpoint = {}
    missing = [key for key in ('meta', 'state_dict', 'message_hub') if key not in checkpoint]
    if not missing:
        meta = checkpoint['meta'] if isinstance(checkpoint['meta'], Mapping) else {}
        missing = [f'meta.{key}' for key in ('epoch', 'iter') if key not in meta]
    if missing:
        raise InputError(
            f'cannot resume from {path}, it has no {", ".join(missing)}; '
            'to start from its weights, set load_from'
        )


def find_last_checkpoint(work_dir: str | Path) -> Path | None:
    """Finds the checkpoint from which a training in `work_dir` goes on, if it wrote one.

    Raises:
        InputError: If the file that `last_checkpoint` names is missing or damaged; the message
            names another one that is whole.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    if not pointer.is_file():
        return None
    named = Path(pointer.read_text().strip())
    # mmengine's own are whole paths, also where the folder has been moved or copied since.
    path = Path(work_dir, named.name if named.is_absolute() else named)
    if named.is_absolute() and not path.is_file():
        path = named  # in another folder, by `out_dir` of the CheckpointHook
    try:
        check_resumable(path)
    except InputError as error:
        others = sorted(Path(work_dir).glob('*.pth'), key=lambda p: p.stat().st_mtime, reverse=True)
        whole = next((other for other in others if other != path and is_resumable(other)), None)
        advice = f'go on from an earlier one with --resume {whole}, or ' if whole else ''
        raise InputError(f'{error}; {advice}delete {pointer} to start anew') from error
    return path


def is_resumable(path: Path) -> bool:
    """Whether `check_resumable` has nothing against a file."""
    try:
        check_resumable(path)
    except InputError:
        return False
    return True


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


def describe(problems: Mapping[str, str]) -> str:
    """Returns a line with the first names of each kind and the number of all."""
    kinds = {'missing': [], 'unexpected': [], 'of another shape': []}
    for name, problem in problems.items():
        if problem in kinds:
            kinds[problem].append(name)
        else:
            kinds['of another shape'].append(f'{name} {problem}')
    return '; '.join(
        f'{len(names)} {kind}: {", ".join(names[:SHOWN])}{", ..." if len(names) > SHOWN else ""}'
        for kind, names in kinds.items()
        if names
    )
