"""tools/train.py on a miniature of each task."""

import errno
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from golden import authors_weights
from killed import Killed
from marks import rest_is_slow
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import MODELS
from safetensors.torch import save_file
from strangers import serving

from scopevit import ScopeViT
from scopevit.checkpoint import read_checkpoint
from scopevit.engine.config import load_config
from scopevit.models.convert import convert_state_dict
from scopevit.publish import publish_checkpoint
from scopevit.state_dict import below_prefix

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
    assert 'compat: ' in log_of(task.work_dir)
    assert (task.work_dir / 'last_checkpoint').read_text() == 'epoch_2.pth'
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
    loader = load_config(work_dir / task.config.name).train_dataloader
    assert loader.collate_fn == dict(type='default_collate')  # as in the library's own tool


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


def starts_with(work_dir: Path, weights: dict) -> None:
    """Asserts that the backbone of a training without steps has some parameters."""
    trained = read_checkpoint(work_dir / 'epoch_1.pth')['state_dict']
    parameters = [name for name in weights if name.endswith(('weight', 'bias'))]
    assert len(parameters) > 50
    for name in parameters:
        assert torch.equal(trained[f'backbone.{name}'], weights[name]), name


def backbone_of(checkpoint: Path) -> dict:
    """Returns the weights of the backbone in a checkpoint, by its own names."""
    return below_prefix(read_checkpoint(checkpoint)['state_dict'], 'backbone.')


NO_STEPS = ('--no-validate', '--cfg-options', 'optim_wrapper.optimizer.lr=0.0')


@pytest.mark.parametrize('name', TASKS)
def test_option_pretrained(name, make_task, tool, save_weights):
    classification = make_task('classification')
    task = classification if name == 'classification' else make_task(name)
    # Of a head with other classes, as after ImageNet.
    checkpoint = save_weights(classification, lambda w: w.update({'head.fc.bias': torch.ones(7)}))
    code, err = tool(
        'train', task.config, '--work-dir', task.work_dir, '--pretrained', checkpoint, *NO_STEPS
    )
    assert code == 0, err
    starts_with(task.work_dir, backbone_of(checkpoint))
    cfg = load_config(task.work_dir / task.config.name)
    assert cfg.model.backbone.init_cfg == {
        'type': 'Pretrained', 'checkpoint': f'backbone://{checkpoint}',
    }  # fmt: skip


@pytest.mark.parametrize('kind', ['bare', 'module', 'safetensors', 'bare safetensors', 'download'])
def test_files_of_pretrained_weights(kind, make_task, tool, save_weights, tmp_path):
    task = make_task('classification')
    path = save_weights(task)
    weights = backbone_of(path)
    # A checkpoint that init_cfg of the config names gives way.
    text = "\nmodel['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='none.pth')\n"
    task.config.write_text(task.config.read_text() + text)
    with serving(tmp_path) as server:
        if kind == 'bare':
            torch.save(weights, path)
        elif kind == 'module':
            torch.save({'model': {f'module.backbone.{k}': v for k, v in weights.items()}}, path)
        elif kind == 'safetensors':
            path = publish_checkpoint(path, tmp_path / 'a', as_safetensors=True)
        elif kind == 'bare safetensors':
            path = tmp_path / 'a.safetensors'
            save_file(weights, path)
        else:
            path = f'{server.url}{Path(shutil.copy(path, server.files)).name}'
        code, err = tool(
            'train', task.config, '--work-dir', task.work_dir, '--pretrained', path, *NO_STEPS
        )
    assert code == 0, err
    starts_with(task.work_dir, weights)


def set_backbone(task, backbone: str, channels: int) -> None:
    """Gives the classifier of a task another backbone."""
    text = f"\nmodel['backbone'] = {backbone}\nmodel['head']['in_channels'] = {channels}\n"
    task.config.write_text(task.config.read_text() + text)


def test_pretrained_by_the_authors(make_task, tool, tmp_path):
    task = make_task('classification')
    set_backbone(task, "dict(type='ScopeViT', arch='xtiny')", 256)
    weights, path = authors_weights('xtiny'), tmp_path / 'theirs.pth'
    torch.save({'state_dict': weights}, path)
    code, err = tool(
        'train', task.config, '--work-dir', task.work_dir, '--pretrained', path, *NO_STEPS
    )
    assert code == 0, err
    expected = below_prefix(convert_state_dict(weights)[0], 'backbone.')
    starts_with(task.work_dir, expected)
    # The config that it leaves starts in the same way without the option.
    again = tmp_path / 'again'
    code, err = tool('train', task.work_dir / task.config.name, '--work-dir', again)
    assert code == 0, err
    starts_with(again, expected)


def test_pretrained_peer(make_task, tool, save_weights):
    task = make_task('classification')
    set_backbone(task, "dict(type='ResNet', depth=18)", 512)
    path = save_weights(task)
    code, err = tool(
        'train', task.config, '--work-dir', task.work_dir, '--pretrained', path, *NO_STEPS
    )
    assert code == 0, err
    starts_with(task.work_dir, backbone_of(path))


def test_going_on_comes_before_pretrained_weights(make_task, tool, save_weights):
    task = make_task('classification')
    arguments = ['train', task.config, '--work-dir', task.work_dir, '--resume', '--no-validate']
    path = save_weights(task)
    code, err = tool(*arguments, '--pretrained', path)  # there is nothing to go on from
    assert code == 0, err
    assert f'load model from: backbone://{path}' in log_of(task.work_dir)
    path.unlink()
    options = ['--cfg-options', 'train_cfg.max_epochs=2']
    code, err = tool(*arguments, '--pretrained', path, *options)
    assert code == 0, err
    assert 'resumed epoch: 1, iter: 2' in log_of(task.work_dir)


def test_resume_with_nothing_to_go_on_from_leaves_load_from(make_task, tool, save_weights):
    task = make_task('classification')
    path = save_weights(task)
    code, err = tool(
        'train', task.config, '--work-dir', task.work_dir, '--resume', *NO_STEPS,
        f'load_from={path}',
    )  # fmt: skip
    assert code == 0, err
    starts_with(task.work_dir, backbone_of(path))


def test_a_checkpoint_is_read_once(make_task, tool, monkeypatch):
    task = make_task('classification')
    code, err = tool('train', task.config, '--work-dir', task.work_dir)
    assert code == 0, err
    read, load = [], torch.load
    monkeypatch.setattr(torch, 'load', lambda path, **kw: [read.append(path), load(path, **kw)][1])
    path = task.work_dir / 'epoch_1.pth'
    more = ['--cfg-options', 'train_cfg.max_epochs=2']
    init_cfg = ['type=Pretrained', f'checkpoint={path}', 'prefix=backbone.']
    for arguments in (
        ['train', task.config, '--resume', *more],
        ['train', task.config, '--resume', path, *more],
        ['train', task.config, *more, f'load_from={path}'],
        ['test', task.config, path],
        ['train', task.config, '--pretrained', path],
        ['train', task.config, *more, *(f'model.backbone.init_cfg.{pair}' for pair in init_cfg)],
    ):
        (task.work_dir / 'last_checkpoint').write_text('epoch_1.pth')
        read.clear()
        code, err = tool(*arguments, '--work-dir', task.work_dir)
        assert code == 0, err
        assert read == [path]


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
            raise Killed
        put(self, obj, filepath)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, 'put', put_half)
        with pytest.raises(Killed):
            tool(*arguments, *options)
    assert [path.name for path in task.work_dir.glob('*.pth')] == ['epoch_1.pth']
    code, err = tool(*arguments, '--resume', *options)
    assert code == 0, err
    assert 'resumed epoch: 1, iter: 2' in log_of(task.work_dir)
    assert [path.name for path in task.work_dir.glob('*.pth')] == ['epoch_2.pth']
    assert read_checkpoint(task.work_dir / 'epoch_2.pth')['meta']['iter'] == 4


def test_a_full_disk_leaves_the_earlier_checkpoint(make_task, tool, monkeypatch):
    task = make_task('classification')
    arguments = ['train', task.config, '--work-dir', task.work_dir, '--no-validate']
    put = LocalBackend.put

    def put_until_full(self, obj: bytes, filepath: str) -> None:
        put(self, obj[: len(obj) // 2], filepath)
        if 'epoch_2' in str(filepath):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(self, obj, filepath)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, 'put', put_until_full)
        code, err = tool(*arguments, '--cfg-options', 'train_cfg.max_epochs=2')
    path = task.work_dir / 'epoch_2.pth'
    assert code == 1
    assert f'error: cannot write {path}: No space left on device\n' in err
    assert [one.name for one in task.work_dir.glob('*.pth*')] == ['epoch_1.pth']
    assert (task.work_dir / 'last_checkpoint').read_text() == 'epoch_1.pth'
    read_checkpoint(task.work_dir / 'epoch_1.pth')


def test_a_loss_that_is_no_number_ends_the_training(make_task, tool):
    task = make_task('classification')
    options = ['train_cfg.max_epochs=3', 'optim_wrapper.optimizer.lr=1e30']
    code, err = tool('train', task.config, '--work-dir', task.work_dir, '--cfg-options', *options)
    assert code == 1
    line = err.splitlines()[-1]
    assert re.match(r'error: .*the loss is (nan|inf) at iteration [23]; loss', line)
    assert 'learning rate 1e+30; batch ' in line
    # No checkpoint, but the step.
    [saved] = task.work_dir.glob('*.pth')
    assert saved.stem == f'failed_iter_{re.search("iteration ([23])", line)[1]}'


def test_goes_on_from_an_earlier_checkpoint(make_task, tool):
    task = make_task('classification')
    arguments = ['train', task.config, '--work-dir', task.work_dir, '--no-validate']
    code, err = tool(*arguments, '--cfg-options', 'train_cfg.max_epochs=2')
    assert code == 0, err
    damaged = task.work_dir / 'epoch_2.pth'
    damaged.write_bytes(damaged.read_bytes()[:1000])
    stray = task.work_dir / 'epoch_3.pth.12345678.part'
    stray.touch()
    code, err = tool(*arguments, '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert code == 0, err
    assert 'resumed epoch: 1, iter: 2' in log_of(task.work_dir)
    assert read_checkpoint(damaged)['meta']['epoch'] == 2
    assert not stray.exists()


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
            raise Killed
        put(self, obj, filepath)

    def best() -> list[str]:
        return [path.name for path in task.work_dir.glob('best_*.pth')]

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, 'put', put_half)
        with pytest.raises(Killed):
            tool(*arguments, *options)
    assert best() == ['best_accuracy_top1_epoch_1.pth']
    read_checkpoint(task.work_dir / best()[0])
    code, err = tool(*arguments, '--resume', *options)
    assert code == 0, err
    assert best() == ['best_accuracy_top1_epoch_3.pth']
    info = read_checkpoint(task.work_dir / 'epoch_3.pth')['message_hub']['runtime_info']
    assert info['best_ckpt'] == best()[0]


@pytest.fixture
def finished(make_task, tool, monkeypatch):
    """A task trained for two epochs, with the best and the last checkpoint left of it."""
    task = make_task('classification')
    task.edit(
        "type='CheckpointHook'",
        "type='CheckpointHook', save_best='accuracy/top1', max_keep_ckpts=1",
    )
    # Every epoch is better than the one before.
    monkeypatch.setitem(CheckpointHook.rule_map, 'greater', lambda x, y: True)
    options = ['--cfg-options', 'train_cfg.max_epochs=2']
    code, err = tool('train', task.config, '--work-dir', task.work_dir, *options)
    assert code == 0, err
    assert checkpoints(task.work_dir) == ['best_accuracy_top1_epoch_2.pth', 'epoch_2.pth']
    return task


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth'))


def name_whole_paths(folder: Path, original: Path) -> None:
    """Turns a work dir into what mmengine alone would have left in another folder."""
    for path in folder.glob('*.pth'):
        checkpoint = read_checkpoint(path)
        info = checkpoint['message_hub']['runtime_info']
        for key in ('best_ckpt', 'last_ckpt'):
            info[key] = str(original / info[key])
        torch.save(checkpoint, path)
    (folder / 'last_checkpoint').write_text(str(original / 'epoch_2.pth'))


@pytest.mark.parametrize('whole_paths', [False, True])
def test_a_copy_goes_on_by_itself(whole_paths, finished, tool, snapshot, tmp_path):
    copy = tmp_path / 'copy'
    shutil.copytree(finished.work_dir, copy)
    if whole_paths:
        name_whole_paths(copy, finished.work_dir)
    before = snapshot(finished.work_dir)
    options = ['--resume', '--cfg-options', 'train_cfg.max_epochs=3']
    code, err = tool('train', finished.config, '--work-dir', copy, *options)
    assert code == 0, err
    assert snapshot(finished.work_dir) == before
    assert f'Load checkpoint from {copy / "epoch_2.pth"}' in log_of(copy)
    assert checkpoints(copy) == ['best_accuracy_top1_epoch_3.pth', 'epoch_3.pth']


@pytest.mark.parametrize('whole_paths', [False, True])
def test_going_on_elsewhere_removes_nothing(whole_paths, finished, tool, snapshot, tmp_path):
    if whole_paths:
        name_whole_paths(finished.work_dir, finished.work_dir)
    before = snapshot(finished.work_dir)
    new = tmp_path / 'new'
    new.mkdir()
    for name in ('epoch_2.pth', 'best_accuracy_top1_epoch_2.pth'):
        (new / name).write_text('of yet another run')
    code, err = tool(
        'train', finished.config, '--work-dir', new, '--resume', finished.work_dir / 'epoch_2.pth',
        '--cfg-options', 'train_cfg.max_epochs=4',
    )  # fmt: skip
    assert code == 0, err
    assert snapshot(finished.work_dir) == before
    assert (new / 'epoch_2.pth').read_text() == 'of yet another run'
    assert checkpoints(new) == [
        'best_accuracy_top1_epoch_2.pth', 'best_accuracy_top1_epoch_4.pth', 'epoch_2.pth',
        'epoch_4.pth',
    ]  # fmt: skip


def test_going_on_from_a_download(finished, tool, tmp_path):
    new = tmp_path / 'new'
    with serving(tmp_path) as server:
        shutil.copy(finished.work_dir / 'epoch_2.pth', server.files)
        code, err = tool(
            'train', finished.config, '--work-dir', new, '--resume', f'{server.url}epoch_2.pth',
            '--cfg-options', 'train_cfg.max_epochs=3',
        )  # fmt: skip
        assert code == 0, err
        assert server.asked == ['/epoch_2.pth']
    assert 'resumed epoch: 2, iter: 4' in log_of(new)
    assert checkpoints(new) == ['best_accuracy_top1_epoch_3.pth', 'epoch_3.pth']


def test_checkpoints_in_a_folder_of_their_own(finished, tool, tmp_path):
    out = tmp_path / 'out'
    finished.edit("type='CheckpointHook'", f"type='CheckpointHook', out_dir='{out}'")
    new = tmp_path / 'new'
    for epochs in (1, 2):
        options = ['--resume', '--cfg-options', f'train_cfg.max_epochs={epochs}']
        code, err = tool('train', finished.config, '--work-dir', new, *options)
        assert code == 0, err
    assert 'resumed epoch: 1, iter: 2' in log_of(new)
    assert (new / 'last_checkpoint').read_text() == str(out / 'new' / 'epoch_2.pth')
    assert checkpoints(out / 'new') == ['best_accuracy_top1_epoch_2.pth', 'epoch_2.pth']
    # A copy of the work dir finds them, too, and leaves them there.
    shutil.copytree(new, tmp_path / 'copy')
    options = ['--resume', '--cfg-options', 'train_cfg.max_epochs=3']
    code, err = tool('train', finished.config, '--work-dir', tmp_path / 'copy', *options)
    assert code == 0, err
    assert checkpoints(out / 'new') == ['best_accuracy_top1_epoch_2.pth', 'epoch_2.pth']
    assert checkpoints(out / 'copy') == ['best_accuracy_top1_epoch_3.pth', 'epoch_3.pth']


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
