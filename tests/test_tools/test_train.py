"""tools/train.py on a miniature of each task."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from marks import rest_is_slow
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import MODELS

from scopevit import ScopeViT
from scopevit.checkpoint import read_checkpoint
from scopevit.engine.config import load_config

LIBRARIES = {
    'classification': 'mmpretrain',
    'detection': 'mmdet',
    'segmentation': 'mmseg',
    'pose': 'mmpose',
}
TASKS = tuple(LIBRARIES)


def log_of(work_dir: Path) -> str:
    """Returns the logs of all runs in a work dir."""
    return ''.join(path.read_text() for path in sorted(work_dir.glob('2*/*.log')))


@pytest.mark.parametrize('name', TASKS)
def test_trains_and_resumes(name, make_task, tool):
    task = make_task(name)
    code, err = tool('train', task.config, '--work-dir', task.work_dir)
    assert code == 0, err
    first_bytes = (task.work_dir / 'epoch_1.pth').read_bytes()
    first = read_checkpoint(task.work_dir / 'epoch_1.pth')
    # 8, 4, 4 and 4 samples in batches of 4, 2, 2 and 2
    assert (first['meta']['epoch'], first['meta']['iter']) == (1, 2)
    assert all(torch.isfinite(value).all() for value in first['state_dict'].values())

    options = ['--resume', '--cfg-options', 'train_cfg.max_epochs=2']
    code, err = tool('train', task.config, '--work-dir', task.work_dir, *options)
    assert code == 0, err
    second = read_checkpoint(task.work_dir / 'epoch_2.pth')
    assert (second['meta']['epoch'], second['meta']['iter']) == (2, 4)
    assert 'resumed epoch: 1, iter: 2' in log_of(task.work_dir)
    assert (task.work_dir / 'last_checkpoint').read_text() == str(task.work_dir / 'epoch_2.pth')
    assert (task.work_dir / 'epoch_1.pth').read_bytes() == first_bytes
    assert not list(task.work_dir.glob('*.part'))
    assert (task.work_dir / task.config.name).is_file()


@pytest.mark.parametrize('name', TASKS)
def test_amp_changes_the_computation_only(name, make_task, tool):
    task = make_task(name)
    code, err = tool('train', task.config, '--work-dir', task.work_dir, '--amp', '--no-validate')
    assert code == 0, err
    state_dict = read_checkpoint(task.work_dir / 'epoch_1.pth')['state_dict']
    assert {v.dtype for v in state_dict.values()} == {torch.float32, torch.int64}
    assert 'AmpOptimWrapper' in (task.work_dir / task.config.name).read_text()


def test_options_reach_the_run(make_task, tool, monkeypatch, tmp_path):
    task = make_task('classification')
    monkeypatch.chdir(tmp_path)
    code, err = tool(
        'train', task.config, '--auto-scale-lr', '--no-validate', '--resume',
        '--cfg-options', 'randomness.seed=7', 'train_dataloader.batch_size=8',
    )  # fmt: skip
    assert code == 0, err
    # The default work dir; --resume found nothing there and began anew.
    work_dir = tmp_path / 'work_dirs' / 'classification'
    checkpoint = read_checkpoint(work_dir / 'epoch_1.pth')
    assert checkpoint['meta']['seed'] == 7
    assert checkpoint['meta']['iter'] == 1
    # lr 0.01 is for base_batch_size 16
    assert checkpoint['optimizer']['param_groups'][0]['lr'] == pytest.approx(0.005)
    assert 'Epoch(train)' in log_of(work_dir)
    assert 'Epoch(val)' not in log_of(work_dir)


def test_load_from_reports_what_it_does_not_load(make_task, tool, save_weights):
    task = make_task('classification')
    checkpoint = save_weights(task, lambda weights: weights.update({'head.fc.bias': torch.ones(5)}))
    weights = torch.load(checkpoint, weights_only=True)['state_dict']
    code, err = tool(
        'train', task.config, '--work-dir', task.work_dir,
        '--cfg-options', f'load_from={checkpoint}', 'optim_wrapper.optimizer.lr=0.0',
    )  # fmt: skip
    assert code == 0, err
    assert '1 of another shape: head.fc.bias (5,) instead of (3,)' in log_of(task.work_dir)
    trained = read_checkpoint(task.work_dir / 'epoch_1.pth')['state_dict']
    name = 'backbone.stages.0.patch_embed.0.weight'
    assert torch.equal(trained[name], weights[name])


def test_pretrained_backbone(make_task, tool, save_weights):
    classification, task = make_task('classification'), make_task('detection')
    checkpoint = save_weights(classification)
    weights = torch.load(checkpoint, weights_only=True)['state_dict']
    pretrained = 'model.backbone.init_cfg'
    code, err = tool(
        'train', task.config, '--work-dir', task.work_dir, '--no-validate',
        '--cfg-options', f'{pretrained}.type=Pretrained', f'{pretrained}.checkpoint={checkpoint}',
        f'{pretrained}.prefix=backbone.', 'optim_wrapper.optimizer.lr=0.0',
    )  # fmt: skip
    assert code == 0, err
    trained = read_checkpoint(task.work_dir / 'epoch_1.pth')['state_dict']
    parameters = [
        k for k in weights if k.startswith('backbone.') and k.endswith(('weight', 'bias'))
    ]
    assert len(parameters) > 100
    assert all(torch.equal(trained[name], weights[name]) for name in parameters)


def test_resumes_after_a_kill_while_a_checkpoint_is_written(make_task, tool, monkeypatch):
    task = make_task('classification')
    # The hardest case: the old checkpoint goes when the new one comes.
    task.edit("type='CheckpointHook'", "type='CheckpointHook', max_keep_ckpts=1")
    arguments = ['train', task.config, '--work-dir', task.work_dir, '--no-validate']
    options = ['--cfg-options', 'train_cfg.max_epochs=2']
    put = LocalBackend.put

    def put_half(self, obj: bytes, filepath: str) -> None:
        put(self, obj[: len(obj) // 2], filepath)
        if 'epoch_2' in str(filepath):
            raise KeyboardInterrupt
        put(self, obj, filepath)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, 'put', put_half)
        with pytest.raises(KeyboardInterrupt):
            tool(*arguments, *options)
    assert [path.name for path in task.work_dir.glob('*.pth')] == ['epoch_1.pth']
    code, err = tool(*arguments, '--resume', *options)
    assert code == 0, err
    assert 'resumed epoch: 1, iter: 2' in log_of(task.work_dir)
    assert [path.name for path in task.work_dir.glob('*.pth')] == ['epoch_2.pth']
    assert read_checkpoint(task.work_dir / 'epoch_2.pth')['meta']['iter'] == 4


def test_a_kill_while_the_best_checkpoint_is_written_leaves_the_last_best(
    make_task, tool, monkeypatch
):
    task = make_task('classification')
    task.edit("type='CheckpointHook'", "type='CheckpointHook', save_best='accuracy/top1'")
    arguments = ['train', task.config, '--work-dir', task.work_dir]
    options = ['--cfg-options', 'train_cfg.max_epochs=3']
    # Every epoch is better than the one before.
    monkeypatch.setitem(CheckpointHook.rule_map, 'greater', lambda x, y: True)
    put = LocalBackend.put

    def put_half(self, obj: bytes, filepath: str) -> None:
        if 'best_accuracy_top1_epoch_2' in str(filepath):
            put(self, obj[: len(obj) // 2], filepath)
            raise KeyboardInterrupt
        put(self, obj, filepath)

    def best() -> list[str]:
        return [path.name for path in task.work_dir.glob('best_*.pth')]

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, 'put', put_half)
        with pytest.raises(KeyboardInterrupt):
            tool(*arguments, *options)
    assert best() == ['best_accuracy_top1_epoch_1.pth']
    read_checkpoint(task.work_dir / best()[0])
    code, err = tool(*arguments, '--resume', *options)
    assert code == 0, err
    assert best() == ['best_accuracy_top1_epoch_3.pth']
    info = read_checkpoint(task.work_dir / 'epoch_3.pth')['message_hub']['runtime_info']
    assert info['best_ckpt'] == str(task.work_dir / best()[0])


@pytest.mark.parametrize(('name', 'library'), rest_is_slow(LIBRARIES.items()))
def test_backbone_in_the_train_tool_of_a_library(name, library, make_task, process):
    task = make_task(name)
    folder = find_spec(library).submodule_search_locations[0]
    train = Path(folder, '.mim', 'tools', 'train.py')
    # By default, mmpretrain lets the processes that load data persist; here are none.
    options = [f'{mode}_dataloader.persistent_workers=False' for mode in ('train', 'val')]
    result = process(
        train, task.config, '--work-dir', task.work_dir, '--cfg-options', *options,
        CUDA_VISIBLE_DEVICES='',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    weights = read_checkpoint(task.work_dir / 'epoch_1.pth')['state_dict']
    backbone = MODELS.build(load_config(task.config).model.backbone)
    assert isinstance(backbone, ScopeViT)
    trained = {k.removeprefix('backbone.') for k in weights if k.startswith('backbone.')}
    assert trained == set(backbone.state_dict())
