"""Gradient accumulation: a step of a recipe takes several batches."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from scopevit.engine.walk import type_name
from scopevit.errors import InputError

# Of schedules that count steps.
COUNTS = ('begin', 'end', 'T_max', 'step_size', 'total_steps', 'milestones', 'periods')
LOOP_COUNTS = ('max_iters', 'val_begin', 'val_interval', 'dynamic_intervals')


def take_batches(cfg: Config, count: int) -> None:
    """Lets a config take `count` batches a step, and count steps as before.

    What it counts in steps is as many times as long in batches: schedules, averages, a training
    that counts no epochs, and its checkpoints. `--auto-scale-lr` scales by the samples of a step.

    Raises:
        InputError: If the config accumulates already.
    """
    if cfg.optim_wrapper.get('accumulative_counts', 1) != 1:
        raise InputError(
            f'--accumulate {count}: optim_wrapper.accumulative_counts of {cfg.filename} is '
            f'{cfg.optim_wrapper.accumulative_counts} already'
        )
    cfg.optim_wrapper.accumulative_counts = count
    for schedule in schedules(cfg.get('param_scheduler')):
        if not schedule.get('by_epoch', True):
            lengthen(schedule, COUNTS, count)
            if type_name(schedule).startswith('Exponential'):
                schedule['gamma'] **= 1 / count
    loop = cfg.train_cfg
    if not loop.get('by_epoch', 'type' not in loop or type_name(loop) != 'IterBasedTrainLoop'):
        lengthen(loop, LOOP_COUNTS, count)
    for average in cfg.get('custom_hooks') or []:
        if type_name(average) == 'EMAHook':
            average['interval'] = average.get('interval', 1) * count
            lengthen(average, ('begin_iter',), count)
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if not hook.get('by_epoch', True):
        lengthen(hook, ('interval', 'save_begin'), count)
    if cfg.get('auto_scale_lr'):
        cfg.auto_scale_lr.base_batch_size /= count


def schedules(value: Any) -> Iterator[dict[str, Any]]:
    """Yields the schedules in `param_scheduler`: one, several, or those of each optimizer."""
    if isinstance(value, dict) and 'type' in value:
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from schedules(part)
    else:
        for part in value or []:
            yield from schedules(part)


def lengthen(part: dict[str, Any], keys: tuple[str, ...], count: int) -> None:
    """Multiplies numbers of a part of a config, and those in its lists."""
    for key in keys:
        if part.get(key) is not None:
            part[key] = times(part[key], count)


def times(value: Any, count: int) -> Any:
    """Returns a number, or those in lists, many times."""
    if isinstance(value, (list, tuple)):
        return [times(item, count) for item in value]
    return value * count  # infinity, too, is an end
