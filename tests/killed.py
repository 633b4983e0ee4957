"""Trainings that are killed, and whether what they leave is the same."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS

from scopevit.launched import is_restarted

# Of messages that are of the run, not of the training: how long it took, and what it was called.
OF_THE_RUN = ('time', 'memory', 'experiment_name', 'cfg', 'timestamp', 'mmengine_version')


class Killed(BaseException):
    """The end of a process, where a test stays in it."""


@HOOKS.register_module()
class KillHook(Hook):
    """Ends a training at some step, in some call of a hook: at once, or by a signal.

    The signal goes to this process, or to the one that started it, from the process of a `rank`.
    """

    priority = 'VERY_HIGH'  # before a checkpoint of the step is written
    at: int | None = None
    place = 'after_train_iter'
    signal = 0
    to_parent = False
    rank = 0

    def __init__(self, **kill: Any) -> None:
        vars(self).update(kill)

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self.kill('after_train_iter', runner)

    def after_val_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self.kill('after_val_iter', runner)

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self.kill('after_val_epoch', runner)

    def kill(self, place: str, runner: Any) -> None:
        if self.at is None or place != self.place or runner.iter < self.at:
            return
        if not self.signal:
            raise Killed
        if get_rank() == self.rank and not is_restarted():
            os.kill(os.getppid() if self.to_parent else os.getpid(), self.signal)


# For the config of a miniature classification: random in data, model and schedule; statistics,
# averages and counts to keep.
RANDOM = """
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=64),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=train_sampler, dataset=dict(dataset, pipeline=pipeline)
)
model['backbone']['drop_path_rate'] = 0.5
model['train_cfg'] = dict(augments=[dict(type='Mixup', alpha=0.8)])
model['data_preprocessor'] = dict(norm, num_classes=3)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
    accumulative_counts=1,
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=12)]
custom_hooks = [
    dict(type='mmengine.EMAHook', momentum=0.1, update_buffers=True),
    dict(type='mmengine.KillHook'),
    dict(type='mmengine.EarlyStoppingHook', monitor='accuracy/top1', rule='greater', patience=9),
]
default_hooks = dict(
    checkpoint=dict(
        type='CheckpointHook', interval=1, by_epoch=False, save_best='accuracy/top1', rule='greater'
    ),
    logger=dict(type='LoggerHook', interval=1),
)
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
"""


def different(a: Any, b: Any, name: str = '') -> list[str]:
    """Names what two checkpoints differ in."""
    if name.rpartition('/')[2].rpartition('_')[2] in OF_THE_RUN or name.endswith(OF_THE_RUN):
        return []
    if type(a) is not type(b):
        return [f'{name}: {type(a).__name__}, {type(b).__name__}']
    if isinstance(a, HistoryBuffer):
        a, b = vars(a), vars(b)
    if isinstance(a, Mapping):
        if a.keys() != b.keys():
            return [f'{name}: {sorted(map(str, a.keys() ^ b.keys()))}']
        return [found for key in a for found in different(a[key], b[key], f'{name}/{key}')]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [f'{name}: {len(a)}, {len(b)}']
        pairs = enumerate(zip(a, b, strict=True))
        return [found for i, (x, y) in pairs for found in different(x, y, f'{name}/{i}')]
    if isinstance(a, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [name]
    if isinstance(a, np.ndarray):
        return [] if np.array_equal(a, b, equal_nan=a.dtype.kind == 'f') else [name]
    return [] if a == b or (a != a and b != b) or callable(a) else [f'{name}: {a}, {b}']
