"""Two processes train on the CPU, and validate and save one model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as torch_dist
from mmengine.config import Config

import scopevit
from scopevit.engine import distributed
from scopevit.errors import InputError

ROOT = Path(scopevit.__file__).parents[1]

# What tools/train.py does, around a model of one layer and one batch norm.
SCRIPT = """
import json
import sys

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn

from scopevit.engine.distributed import setup
from scopevit.engine.runner import CheckedRunner


@DATASETS.register_module()
class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.full((1, 2, 2), float(index)), index


@MODELS.register_module()
class Tiny(BaseModel):
    def __init__(self):
        super().__init__()
        self.norm = nn.SyncBatchNorm(1)
        self.layer = nn.Linear(4, 1)
        self.unused = nn.Linear(1, 1)

    def forward(self, inputs, labels, mode='tensor'):
        output = self.layer(self.norm(inputs).flatten(1))
        if mode == 'loss':
            return {'loss': (output.squeeze(1) - labels).pow(2).mean()}
        return labels.tolist()


@METRICS.register_module()
class Seen(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        Seen.labels = sorted(results)
        return {'count': len(results)}


@HOOKS.register_module()
class Validated(Hook):
    means = []

    def after_val_epoch(self, runner, metrics=None):
        self.means.append(runner.model.module.norm.running_mean.item())


loader = dict(
    dataset=dict(type='Numbers'),
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
cfg = Config(
    dict(
        model=dict(type='Tiny'),
        work_dir=sys.argv[1],
        launcher='pytorch',
        find_unused_parameters=True,
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=dict(type='Seen'),
        env_cfg=dict(dist_cfg=dict(backend='nccl', timeout=60)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=2)),
        custom_hooks=[dict(type='Validated')],
    )
)
setup(cfg, cfg.launcher)
runner = CheckedRunner.from_cfg(cfg)
runner.train()
weights = all_gather_object(runner.model.module.layer.weight.tolist())
means = all_gather_object(Validated.means)
saved = torch.load(f'{sys.argv[1]}/epoch_2.pth', weights_only=True)['state_dict']
if get_rank() == 0:
    print(json.dumps({
        'world': runner.world_size,
        'wrapper': type(runner.model).__name__,
        'norm': type(runner.model.module.norm).__name__,
        'iters': runner.iter,
        'same': weights[0] == weights[1],
        'seen': Seen.labels,
        'means': means,
        'saved': saved['norm.running_mean'].item(),
    }))
"""


@pytest.mark.skipif(not torch_dist.is_gloo_available(), reason='needs gloo')
def test_two_processes(tmp_path):
    script = tmp_path / 'train.py'
    script.write_text(SCRIPT)
    env = dict(os.environ, CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')
    env['PYTHONPATH'] = os.pathsep.join([str(ROOT), env.get('PYTHONPATH', '')])
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    run = subprocess.run(
        [*command, '--nproc-per-node', '2', str(script), str(tmp_path / 'work')],
        env=env,
        cwd=tmp_path,  # mmengine collects results in ./.dist_test
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    result = json.loads(run.stdout.strip().splitlines()[-1])
    # One process has 0, 2 and 4, 6, the other 1, 3 and 5, 7. Of the means of these, running means
    # take 0.1 each: 0.59 and 0.78 after an epoch, their mean is 0.685; from there 1.14485 and
    # 1.33485 after the next.
    assert result.pop('means') == 2 * [pytest.approx([0.685, 1.23985])]
    assert result.pop('saved') == pytest.approx(1.23985)
    assert result == {
        'world': 2,
        'wrapper': 'CPUDistributedDataParallel',
        'norm': '_BatchNormXd',
        'iters': 4,  # two epochs of 8 samples in 2 processes by 2
        'same': True,
        'seen': list(range(8)),
    }


def test_setup_does_nothing_without_a_launcher():
    cfg = Config({'model': {}})
    distributed.setup(cfg, 'none')
    assert dict(cfg) == {'model': {}} and not torch_dist.is_initialized()


def test_setup_does_nothing_with_a_gpu(monkeypatch):
    monkeypatch.setattr(distributed, 'get_device', lambda: 'cuda')
    cfg = Config({'model': {}})
    distributed.setup(cfg, 'pytorch')
    assert dict(cfg) == {'model': {}} and not torch_dist.is_initialized()


@pytest.mark.parametrize(
    'given,expected',
    [
        ({}, {'broadcast_buffers': False, 'find_unused_parameters': False}),
        (
            {'find_unused_parameters': True},
            {'broadcast_buffers': False, 'find_unused_parameters': True},
        ),
        ({'model_wrapper_cfg': {'static_graph': True}}, {'static_graph': True}),
        (
            {'model_wrapper_cfg': {'type': 'MMDistributedDataParallel', 'bucket_cap_mb': 5}},
            {'bucket_cap_mb': 5},
        ),
    ],
)
def test_wrapper_keeps_what_the_config_says(given, expected):
    cfg = Config(given)
    for _ in range(2):
        distributed.use_cpu_model_wrapper(cfg)
        assert cfg.model_wrapper_cfg == dict(expected, type='CPUDistributedDataParallel')


def test_wrapper_of_another_type_is_refused():
    cfg = Config({'model_wrapper_cfg': {'type': 'MMFullyShardedDataParallel'}})
    with pytest.raises(ValueError, match='MMFullyShardedDataParallel'):
        distributed.use_cpu_model_wrapper(cfg)


def test_process_group_says_what_is_missing(monkeypatch):
    with pytest.raises(ValueError, match="'slurm' needs GPUs"):
        distributed.init_cpu_process_group('slurm')
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(ValueError, match='RANK.*torchrun'):
        distributed.init_cpu_process_group('pytorch')


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(distributed, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    distributed.check_gpus(1)
    with pytest.raises(InputError, match='process 3 of this machine has no GPU.* as there are, 2'):
        distributed.check_gpus(2)
