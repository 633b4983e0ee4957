"""What a training starts from."""

import signal
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import all_gather_object

from scopevit.engine.checks.weights import read_last_checkpoint, read_resumable, read_weights
from scopevit.engine.config import enable_pretrained
from scopevit.errors import InputError, Stopped
from scopevit.launched import is_restarted, launch_time, noted_stop


def read_start(
    cfg: Config, resume: str | None, pretrained: str | None
) -> tuple[dict[str, Any] | None, list[str]]:
    """Reads the checkpoint that a training starts from, and puts into the config which it is.

    Sets `load_from`, `resume` and `init_cfg` of the backbone. Returns the checkpoint that
    `load_from` names, if any, and what was wrong with newer ones.

    Raises:
        InputError: If it is not such a checkpoint, or two are given to start from.
    """
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or 'auto'
    if noted_stop():
        raise Stopped(signal.SIGTERM, 'before the first step')  # others of the group have been
    last = None
    if resume == 'auto' or is_restarted():
        last = read_last_checkpoint(cfg.work_dir, checkpoint_folder(cfg))
        # A group that starts again goes on with what it wrote itself, unless all may be taken.
        if last and resume != 'auto' and last.path.stat().st_mtime < launch_time():
            last = None
    if last is not None:
        cfg.load_from, cfg.resume = str(last.path), True
        return last.content, last.skipped
    others = {'--resume': resume if resume != 'auto' else None, 'load_from': cfg.get('load_from')}
    for name, other in others.items():
        if pretrained and other:
            raise InputError(f'--pretrained {pretrained} and {name} {other}: give one of them')
    if pretrained:
        enable_pretrained(cfg, pretrained)
    cfg.resume = others['--resume'] is not None
    if cfg.resume:
        cfg.load_from = str(resume)
        return read_resumable(cfg.load_from), []
    return (read_weights(cfg.load_from) if cfg.get('load_from') else None), []


def keep_seed(cfg: Config, checkpoint: dict[str, Any] | None) -> None:
    """Puts the seed of a training that goes on into the config: its batches depend on it."""
    seed = checkpoint['meta'].get('seed') if checkpoint and cfg.resume else None
    if seed is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)


def check_same_start(path: str | None, checkpoint: dict[str, Any] | None) -> None:
    """Raises an InputError where the processes of a training go on from different checkpoints.

    Each has read its own, which on one machine may be missing or damaged.
    """
    meta = (checkpoint or {}).get('meta') or {}
    name = Path(path).name if path else 'none'
    start = f'{name} (epoch {meta.get("epoch")}, iteration {meta.get("iter")})'
    starts: list[str] = all_gather_object(start)
    if len(set(starts)) > 1:
        raise InputError(
            f'the processes would go on from different checkpoints: {", ".join(starts)}'
        )


def checkpoint_folder(cfg: Config) -> str | None:
    """Returns the folder besides the work dir that a config has checkpoints go to, if any."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    folder: str | None = hook.get('out_dir')
    return None if folder is None or '://' in folder else folder
