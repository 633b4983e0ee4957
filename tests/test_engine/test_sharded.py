"""Sharded trainings end as those that are not, and their checkpoints are the ordinary ones."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from killed import RANDOM, different
from launched import launch
from mmengine.config import Config
from tasks import Task, write_task
from torch import nn
from train_many import ROOT, train_many

from scopevit.checkpoint import read_checkpoint
from scopevit.engine.loops import ResumableEpochLoop
from scopevit.engine.sharded import ShardedModel, check_sharding, like
from scopevit.errors import InputError

TESTS = Path(__file__).parents[1]
# Two processes take the same steps with both wrappers. The shapes are those that two processes
# cannot share evenly.
SCRIPT = """
import json
import math

import torch
import torch.distributed as dist
from mmengine.dist import all_gather_object, get_rank
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn

from scopevit.engine.distributed import CPUDistributedDataParallel, leave_process_group
from scopevit.engine.finite import check_finite
from scopevit.engine.loops import StepLeftOut
from scopevit.engine.sharded import ShardedModel, like, local, whole_optimizer_state
from scopevit.errors import InputError


class Tabled(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('table', torch.ones(3))
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        seen.append((self.scale.dtype, x.dtype))
        return x * (self.scale * self.table).to(x.dtype)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.tabled = Tabled()

    def forward(self, x):
        seen.append((self.layer.weight.dtype, self.norm.weight.dtype))
        return x + self.tabled(self.norm(self.layer(x)))


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x):
        return self.layer(x).squeeze(1)

    def loss(self, x, labels):  # as heads of mmseg and mmpose call it
        seen.append((self.layer.weight.dtype, x.dtype))
        return {'loss': (self.forward(x) - labels).pow(2).mean()}


class Tiny(BaseModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(5, 3), Block(), Block())
        self.head = Head()
        self.steps = 0

    def forward(self, inputs, labels, mode='tensor'):
        x = self.backbone(inputs)
        return self.head.loss(x, labels) if mode == 'loss' else x

    def parse_losses(self, losses):
        self.steps += 1
        if self.steps == 2:  # a step without a backward pass
            raise StepLeftOut
        return super().parse_losses(losses)


def train(wrap, optimizer=torch.optim.AdamW, clip_grad=None):
    seen.clear()
    model = wrap(Tiny())
    if isinstance(model, ShardedModel):
        model.shard()
    wrapper = OptimWrapper(optimizer(model.module.parameters(), lr=0.1), clip_grad=clip_grad)
    for step in range(4):
        generator = torch.Generator().manual_seed(2 * step + get_rank())
        data = torch.randn(4, 5, generator=generator), torch.randn(4, generator=generator)
        try:
            model.train_step(data, wrapper)
        except StepLeftOut:
            pass
    return model, wrapper


def flat(model, wrapper):
    state = wrapper.state_dict()
    if isinstance(model, ShardedModel):
        state = whole_optimizer_state(model.module, wrapper)
    parameters = {
        name: (p.full_tensor() if hasattr(p, 'full_tensor') else p).tolist()
        for name, p in model.module.named_parameters()
    }
    state = {i: {k: v.tolist() for k, v in s.items()} for i, s in state.get('state', {}).items()}
    return parameters, state


seen = []
dist.init_process_group('gloo')
ddp = flat(*train(CPUDistributedDataParallel))
model, wrapper = train(lambda model: ShardedModel(model, ['Block', 'head']))
sharded = flat(model, wrapper)
held = sum(local(p).numel() for p in model.module.parameters())
whole = sum(p.numel() for p in model.module.parameters())
weight = model.module.head.layer.weight
copied = like(local(weight).clone(), weight)
same = torch.equal(copied.full_tensor(), weight.full_tensor())
check_finite(model.module)
with torch.no_grad():
    if get_rank() == 1:  # one process has it
        local(model.module.backbone[1].layer.weight)[-1] = math.nan
try:
    check_finite(model.module)
    refused = ''
except InputError as error:
    refused = str(error)
clipped, norms = [], []
for wrap in (CPUDistributedDataParallel, lambda model: ShardedModel(model, ['Block', 'head'])):
    clipped += [flat(*train(wrap, torch.optim.SGD, dict(max_norm=0.1)))[0]]
    norms += [MessageHub.get_current_instance().get_scalar('train/grad_norm').data[0][-3:].tolist()]
half, _ = train(lambda model: ShardedModel(model, ['Block', 'head'], 'bf16'))
half_types = sorted({str(pair) for pair in seen})
half = ShardedModel(Tiny(), ['Block'], 'bf16')
half.shard()
images = torch.randn(8, 5, generator=torch.Generator().manual_seed(9))
expected, maps = Tiny()(images, None), half(images, None)
deviation = ((maps - expected).abs().max() / expected.abs().max()).item()
result = all_gather_object(dict(
    parameters=ddp[0] == sharded[0], state=ddp[1] == sharded[1] and len(ddp[1]), held=held,
    whole=whole, same=same, refused=refused, types=half_types, maps=str(maps.dtype),
    deviation=deviation, clipped=clipped, norms=norms,
))
if get_rank() == 0:
    print(json.dumps(result))
leave_process_group()
"""


def test_two_processes_share_a_model(tmp_path):
    script = tmp_path / 'train.py'
    script.write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
         str(script)],
        env=dict(os.environ, CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT)),
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    first, second = json.loads(run.stdout.strip().splitlines()[-1])
    assert first['parameters'] and second['parameters']  # are DDP's to the last bit
    assert first['state'] == 14  # parameters, whose optimizer state is that of DDP
    # 18 of the first layer, 21 of each block, 4 of the head; of three rows the first process has
    # two, of one all.
    assert first['whole'] == 64
    assert (first['held'], second['held']) == (12 + 14 + 14 + 4, 6 + 7 + 7)
    assert first['same'] and second['same']
    names = 'not saved: the model has weights that are no numbers, as backbone.1.layer.weight'
    assert first['refused'] == second['refused'] == names
    # A norm of parts adds in another order than one of the whole.
    whole, parts = first['clipped']
    for name, value in whole.items():
        assert torch.allclose(torch.tensor(value), torch.tensor(parts[name]), atol=1e-6)
    assert min(first['norms'][0]) > 0.1  # so that they were clipped
    assert first['norms'][1] == pytest.approx(first['norms'][0], rel=1e-5)
    # Linear layers compute in bfloat16, what has tables or statistics and the head in float32.
    assert first['types'] == [
        '(torch.bfloat16, torch.float32)',
        '(torch.float32, torch.bfloat16)',
        '(torch.float32, torch.float32)',
    ]
    assert first['maps'] == 'torch.float32'
    assert 1e-4 < first['deviation'] < 0.03  # bfloat16 has 8 bits


# A head in a unit of its own for each library.
UNITS = {
    'classification': ['ScopeViTBlock', 'LinearClsHead'],
    'detection': ['ScopeViTBlock', 'FPN', 'rpn_head', 'roi_head', 'roi_head.bbox_head'],
    'segmentation': ['TransformerLayer', 'decode_head'],
    'pose': ['ScopeViTBlock', 'head'],
}
RECOMPUTED = """
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
model['backbone']['with_cp'] = True
"""


def shard(units: list[str], **wrapper: object) -> str:
    return (
        f'\nmodel_wrapper_cfg = dict(type={ShardedModel.__name__!r}, units={units}, **{wrapper})\n'
    )


def write(task: Task, name: str, text: str) -> dict:
    """Writes a variant of a task; returns the arguments of its training, the work dir `name`."""
    config = task.config.with_name(f'{name}.py')
    config.write_text(task.config.read_text() + text)
    return dict(config=str(config), work_dir=str(config.with_suffix('')))


@pytest.mark.slow
def test_all_tasks_train_as_without(tmp_path):
    runs = []
    for name, units in UNITS.items():
        task = write_task(name, tmp_path)
        runs += [write(task, f'{name}_whole', RECOMPUTED)]
        runs += [write(task, f'{name}_sharded', RECOMPUTED + shard(units))]
    train_many(runs, 2, tmp_path)
    for name in UNITS:
        whole, parts = (
            tmp_path / f'{name}_{kind}' / 'epoch_1.pth' for kind in ('whole', 'sharded')
        )
        assert different(read_checkpoint(whole), read_checkpoint(parts)) == []


# Random, two batches a step, and killed between them.
STEPS = """
custom_imports['imports'] = ['scopevit', 'killed']
del custom_hooks[0]
optim_wrapper.update(optimizer=dict(type='AdamW', lr=1e-3), accumulative_counts=2)
train_dataloader['batch_size'] = 1
train_cfg['max_epochs'] = 2
default_hooks['checkpoint']['interval'] = 4
"""
SHARDED = shard(['ScopeViTBlock'])
KILLED = f'\ncustom_hooks[0].update(at=4, signal={int(signal.SIGUSR1)}, rank=1)\n'


@pytest.fixture(scope='module')
def saved(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A task with the work dirs of trainings in two processes: as a whole, stopped, resumed."""
    task = write_task('classification', tmp_path_factory.mktemp('sharded'))
    task.config.write_text(task.config.read_text() + RANDOM + STEPS)
    whole = write(task, 'whole', SHARDED)
    stopped = write(task, 'stopped', SHARDED + KILLED)
    folder = Path(stopped['work_dir'])
    train_many([whole, stopped], 2, folder.parent)
    assert (folder / 'last_checkpoint').read_text() == 'stopped.pth'
    resumed = write(task, 'stopped', SHARDED) | dict(resume='auto')
    train_many([resumed], 2, folder.parent)
    return task


@pytest.mark.slow
def test_resumed_in_two_processes(saved):
    folders = (saved.config.with_name(name) for name in ('whole', 'stopped'))
    whole, resumed = (read_checkpoint(folder / 'iter_8.pth') for folder in folders)
    assert different(whole, resumed) == []


@pytest.mark.slow
def test_resumed_in_one_process(saved, tool, monkeypatch, tmp_path):
    path = saved.config.with_name('whole') / 'iter_4.pth'
    checkpoint = read_checkpoint(path)
    seen = []

    def look(loop: ResumableEpochLoop) -> None:
        optimizer = loop.runner.optim_wrapper.state_dict()
        seen.append(dict(state_dict=loop.runner.model.state_dict(), optimizer=optimizer))

    plain = write(saved, 'plain', '')
    with monkeypatch.context() as patch:
        patch.setattr(ResumableEpochLoop, 'run', look)
        code, err = tool('train', plain['config'], '--work-dir', tmp_path, '--resume', path)
    assert code == 0, err
    assert different({key: checkpoint[key] for key in seen[0]}, seen[0]) == []
    assert checkpoint['optimizer']['state'][0]['exp_avg'].abs().max() > 0

    # And to the end, as a model that is not sharded.
    one = write(saved, 'one', SHARDED) | dict(resume=str(path))
    train_many([one, plain | dict(resume=str(path))], 1, tmp_path)
    ends = [read_checkpoint(Path(run['work_dir']) / 'iter_12.pth') for run in (one, plain)]
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert different(ends[0][key], ends[1][key]) == []


@pytest.mark.slow
def test_tested_in_two_processes_as_in_one(saved, tool, tmp_path):
    path = saved.config.with_name('whole') / 'iter_8.pth'
    parts = saved.config.with_name('whole.py')
    result = launch('dist_test.sh', parts, path, 2, '--tta', '--work-dir', tmp_path / '2',
                    cwd=tmp_path, PYTHONPATH=str(TESTS), OMP_NUM_THREADS='1')  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    code, err = tool('test', saved.config, path, '--tta', '--work-dir', tmp_path / '1')
    assert code == 0, err
    first, second = (json.loads((tmp_path / n / 'metrics.json').read_text()) for n in '12')
    assert first['metrics'] == second['metrics']
    assert first['parameters'] == second['parameters']


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(1, 1))])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(units=['Block']), "no 'Block'; its classes with modules in them are Sequential"),
        (dict(units=['layers']), "'layers' is a list; name what is in it"),
        (dict(units='Linear'), "must be a list of names, not 'Linear'"),
        (dict(units=[], mixed_precision='fp16'), "must be 'bf16' or None, not 'fp16'"),
        (dict(units=[], mixed_precision='bf16'), 'mixed_precision: Tiny has no backbone'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(InputError) as caught:
        ShardedModel(Tiny(), **arguments)
    assert str(caught.value).startswith('model_wrapper_cfg.')
    assert str(caught.value).endswith(message)


def test_without_a_launcher(make_task, fails):
    task = make_task('classification')
    run = write(task, 'sharded', SHARDED)
    line = fails('train', run['config'], '--work-dir', task.work_dir)
    assert line.endswith('ShardedModel needs a launcher: train with tools/dist_train.sh')
    assert not task.work_dir.exists()


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(optim_wrapper=dict(type='AmpOptimWrapper')), r'--amp: set .*mixed_precision=.bf16.$'),
        (dict(compile=True), 'cannot be compiled: set compile=False$'),
        (dict(custom_hooks=[dict(type='mmpretrain.EMAHook')]), 'leave out EMAHook$'),
    ],
)
def test_what_does_not_go_together(given, message):
    wrapper = dict(type='mmengine.ShardedModel', units=[])
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')) | given)
    check_sharding(cfg, 'pytorch')  # where nothing is sharded
    cfg.model_wrapper_cfg = wrapper
    with pytest.raises(InputError, match=message):
        check_sharding(cfg, 'pytorch')


def test_gradients_of_another_sharding_are_refused():
    weight = nn.Parameter(torch.ones(4, 2))
    assert torch.equal(like(torch.ones(4, 2), weight), torch.ones(4, 2))
    with pytest.raises(InputError, match='sharded another way'):
        like(torch.ones(2, 2), weight)
