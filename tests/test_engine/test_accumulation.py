"""Steps of several batches."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.config import Config
from tasks import Task

from scopevit.checkpoint import read_checkpoint
from scopevit.engine.accumulation import take_batches
from scopevit.engine.config import load_config
from scopevit.errors import InputError
from scopevit.hub import config_path


def config(**parts: Any) -> Config:
    return Config(dict(optim_wrapper=dict(), train_cfg=dict(by_epoch=True, max_epochs=9), **parts))


def test_what_counts_steps_is_as_long_as_before() -> None:
    cfg = config(
        param_scheduler=[
            dict(type='LinearLR', by_epoch=False, begin=0, end=500),
            dict(type='MultiStepLR', by_epoch=False, milestones=[10, 20]),
            dict(type='mmengine.ExponentialLR', by_epoch=False, gamma=0.25),
            dict(type='CosineAnnealingLR', by_epoch=True, T_max=9, convert_to_iter_based=True),
            dict(type='StepLR', step_size=3),
        ],
        default_hooks=dict(checkpoint=dict(by_epoch=True, interval=1)),
        auto_scale_lr=dict(base_batch_size=1024, enable=True),
    )
    take_batches(cfg, 2)
    assert cfg.optim_wrapper == dict(accumulative_counts=2)
    assert cfg.param_scheduler == [
        dict(type='LinearLR', by_epoch=False, begin=0, end=1000),
        dict(type='MultiStepLR', by_epoch=False, milestones=[20, 40]),
        dict(type='mmengine.ExponentialLR', by_epoch=False, gamma=0.5),
        dict(type='CosineAnnealingLR', by_epoch=True, T_max=9, convert_to_iter_based=True),
        dict(type='StepLR', step_size=3),
    ]
    assert cfg.train_cfg == dict(by_epoch=True, max_epochs=9)
    assert cfg.default_hooks.checkpoint == dict(by_epoch=True, interval=1)
    # A step of 2 x 512 samples has the learning rate of the config.
    assert cfg.auto_scale_lr.base_batch_size == 512


def test_a_training_that_counts_no_epochs() -> None:
    cfg = config(
        param_scheduler=dict(type='PolyLR', by_epoch=False, end=80),
        default_hooks=dict(checkpoint=dict(by_epoch=False, interval=10)),
    )
    cfg.train_cfg = dict(by_epoch=False, max_iters=80, val_interval=10, dynamic_intervals=[(40, 5)])
    take_batches(cfg, 3)
    assert cfg.train_cfg == dict(
        by_epoch=False, max_iters=240, val_interval=30, dynamic_intervals=[[120, 15]]
    )
    assert cfg.param_scheduler.end == 240
    assert cfg.default_hooks.checkpoint.interval == 30


def test_a_recipe_of_segmentation() -> None:
    cfg = load_config(config_path('fpn_scopevit-tiny_8xb4-80k_ade20k-512x512'))
    before = copy.deepcopy(cfg)
    take_batches(cfg, 4)
    assert 'by_epoch' not in before.train_cfg  # its type says it
    assert cfg.train_cfg.max_iters == 4 * before.train_cfg.max_iters
    assert cfg.train_cfg.val_interval == 4 * before.train_cfg.val_interval
    assert cfg.param_scheduler[-1].end == 4 * before.param_scheduler[-1].end


def test_averages() -> None:
    cfg = config(custom_hooks=[dict(type='EMAHook', begin_iter=5), dict(type='Other', interval=3)])
    take_batches(cfg, 2)
    assert cfg.custom_hooks == [
        dict(type='EMAHook', begin_iter=10, interval=2),
        dict(type='Other', interval=3),
    ]


def test_it_accumulates_already() -> None:
    cfg = config()
    cfg.optim_wrapper.accumulative_counts = 4
    with pytest.raises(InputError, match='--accumulate 2: .*accumulative_counts of .* is 4'):
        take_batches(cfg, 2)


def test_two_halves_are_a_batch(
    make_task: Callable[[str], Task], tool: Callable[..., tuple[int, str]]
) -> None:
    task = make_task('classification')
    task.edit("type='ScopeViT', arch=arch,", "type='ScopeViT', arch=arch, norm_eval=True,")
    task.edit(
        'num_workers=0, dataset=dataset, sampler=train_sampler',
        'num_workers=0, dataset=dataset, sampler=test_sampler',
    )
    weights = {}
    for size, options in ((4, []), (2, ['--accumulate', 2])):
        work_dir = task.work_dir / str(size)
        option = f'train_dataloader.batch_size={size}'
        code, err = tool('train', task.config, '--work-dir', work_dir, *options,
                         '--no-validate', '--cfg-options', option)  # fmt: skip
        assert code == 0, err
        saved = read_checkpoint(work_dir / 'epoch_1.pth')
        assert saved['meta']['iter'] == 8 // size
        weights[size] = saved['state_dict']
    for name, value in weights[4].items():
        torch.testing.assert_close(weights[2][name], value, rtol=1e-4, atol=1e-6, msg=name)
