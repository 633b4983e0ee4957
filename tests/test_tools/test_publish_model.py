"""tools/model_converters/publish_model.py, and the tools on what it writes."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scopevit.checkpoint import read_checkpoint
from scopevit.engine.checks.weights import read_resumable
from scopevit.errors import InputError
from scopevit.inference.stored_config import parse_config
from scopevit.publish import publish_checkpoint

TOOL = 'model_converters/publish_model'
WEIGHTS = {'fc.weight': torch.tensor([[1.0, 2.0]]), 'fc.bias': torch.tensor([3.0])}
META = {
    'dataset_meta': {'classes': ('cat', 'dog'), 'sigmas': np.array([0.5, 0.25])},
    'time': '20240101_000000',
    'cfg': 'data_root = "/home/someone"',
}


def save(path: Path, weights: dict | None = None, **others: object) -> Path:
    """Writes a checkpoint as a training does."""
    checkpoint = {'state_dict': weights or WEIGHTS, 'meta': META, 'optimizer': {'state': {}}}
    torch.save(checkpoint | others, path)
    return path


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_weights_and_classes_are_all_that_is_left(tmp_path, tool):
    source = save(tmp_path / 'epoch_1.pth', message_hub={'log_scalars': {}})
    code, err = tool(TOOL, source, tmp_path / 'out' / 'scopevit-tiny_in1k')
    assert code == 0, err
    path = only_file(tmp_path / 'out')
    assert re.fullmatch(r'scopevit-tiny_in1k-[0-9a-f]{8}\.pth', path.name)
    assert path.stem[-8:] == hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    # As it is read where scopevit is not: nothing but tensors, numbers, text, their containers.
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        published = torch.load(path, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(allowed)
    assert set(published) == {'meta', 'state_dict'}
    assert published['meta'] == {'dataset_meta': {'classes': ('cat', 'dog'), 'sigmas': [0.5, 0.25]}}
    assert published['state_dict'].keys() == WEIGHTS.keys()
    assert all(torch.equal(published['state_dict'][name], WEIGHTS[name]) for name in WEIGHTS)


def test_safetensors_has_the_weights_alone(tmp_path, tool):
    source = save(tmp_path / 'epoch_1.pth')
    code, err = tool(TOOL, source, tmp_path / 'out' / 'tiny', '--safetensors')
    assert code == 0, err
    path = only_file(tmp_path / 'out')
    assert re.fullmatch(r'tiny-[0-9a-f]{8}\.safetensors', path.name)
    weights = load_file(path)
    assert {name: value.tolist() for name, value in weights.items()} == {
        'fc.weight': [[1.0, 2.0]],
        'fc.bias': [3.0],
    }


CONFIG = """\
default_scope = 'mmdet'
data_root = '/home/someone/data/'
load_from = '/home/someone/start.pth'
work_dir = './work_dirs/someone'
storage = dict(backend='petrel', path_mapping={'data/': 's3://someone/data/'})
model = dict(
    type='RetinaNet',
    backbone=dict(
        type='ScopeViT', init_cfg=dict(type='Pretrained', checkpoint='/home/someone/a.pth')),
    bbox_head=dict(num_classes=2, file='C:\\\\Users\\\\someone', files=['~/someone', 'kept']))
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(
    batch_size=3,
    num_workers=7,
    dataset=dict(
        type='CocoDataset', data_root=data_root, ann_file='someone.json',
        data_prefix=dict(img='someone/'), backend_args=storage, metainfo=dict(classes=('a', 'b')),
        pipeline=[
            dict(type='LoadImageFromFile', backend_args=storage),
            dict(type='Resize', scale=(64, 64), keep_ratio=True), dict(type='PackDetInputs')]))
"""


def test_the_config_names_no_place(tmp_path):
    path = publish_checkpoint(save(tmp_path / 'a.pth', meta={'cfg': CONFIG}), tmp_path / 'x')
    text = torch.load(path, weights_only=True)['meta']['cfg']
    assert 'someone' not in text
    assert parse_config(text, '') == {
        'default_scope': 'mmdet',
        'model': {
            'type': 'RetinaNet',
            'backbone': {'type': 'ScopeViT'},
            'bbox_head': {'num_classes': 2, 'files': ['kept']},
        },
        'test_dataloader': {
            'batch_size': 3,
            'dataset': {
                'type': 'CocoDataset',
                'metainfo': {'classes': ('a', 'b')},
                'pipeline': [
                    {'type': 'LoadImageFromFile'},
                    {'type': 'Resize', 'scale': (64, 64), 'keep_ratio': True},
                    {'type': 'PackDetInputs'},
                ],
            },
        },
    }
    # Another folder, another machine: the same file.
    moved = save(tmp_path / 'b.pth', meta={'cfg': CONFIG.replace('someone', 'other')})
    assert publish_checkpoint(moved, tmp_path / 'x') == path


@pytest.mark.parametrize(
    'config', ['', 'model = 3', "model = dict(type='RetinaNet')", 'import os', 'a = (']
)
def test_a_config_that_prediction_would_refuse_is_left_out(config, tmp_path):
    path = publish_checkpoint(save(tmp_path / 'a.pth', meta={'cfg': config}), tmp_path / 'x')
    assert torch.load(path, weights_only=True)['meta'] == {}


@pytest.mark.parametrize('as_safetensors', [False, True])
def test_same_weights_same_hash(as_safetensors, tmp_path):
    first = save(tmp_path / 'epoch_1.pth')
    # Another order, other strides, a part of a larger tensor; classes spelt anew; another run.
    weights = {
        'fc.bias': torch.arange(9.0)[3:4],
        'fc.weight': torch.tensor([[1.0], [2.0]]).T,
    }
    dataset_meta = {'classes': (''.join('cat'), ''.join(['d', 'og'])), 'sigmas': [0.5, 0.25]}
    second = save(tmp_path / 'b.pth', weights, meta={'dataset_meta': dataset_meta, 'seed': 7})
    third = save(tmp_path / 'c.pth', {**WEIGHTS, 'fc.bias': torch.tensor([4.0])})
    paths = [
        publish_checkpoint(path, tmp_path / 'out' / 'x', as_safetensors)
        for path in (first, second, third)
    ]
    assert paths[0] == paths[1] != paths[2]
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {paths[0].name, paths[2].name}
    assert paths[0].stat().st_size < 3000


def test_suffix_is_not_repeated(tmp_path):
    path = publish_checkpoint(save(tmp_path / 'a.pth'), tmp_path / 'tiny-v1.0.pth')
    assert re.fullmatch(r'tiny-v1\.0-[0-9a-f]{8}\.pth', path.name)


# EMAHook stores the average where tests look for weights.
@pytest.mark.parametrize(
    ('options', 'expected'), [([], 3.0), (['--ema'], 3.0), (['--no-ema'], 5.0)]
)
def test_moving_average(options, expected, tmp_path, tool):
    current = {'steps': torch.tensor(9), 'module.fc.bias': torch.tensor([5.0])}
    source = save(tmp_path / 'a.pth', ema_state_dict=current)
    code, err = tool(TOOL, source, tmp_path / 'out' / 'x', *options)
    assert code == 0, err
    weights = read_checkpoint(only_file(tmp_path / 'out'))['state_dict']
    assert weights.keys() == WEIGHTS.keys()
    assert weights['fc.bias'].item() == expected
    assert weights['fc.weight'].tolist() == [[1.0, 2.0]]


def test_moving_average_is_told_apart_in_a_training(make_task, tool, tmp_path):
    task = make_task('classification')
    task.config.write_text(
        task.config.read_text() + "\ncustom_hooks = [dict(type='EMAHook', momentum=0.5)]\n"
    )
    code, err = tool('train', task.config, '--work-dir', task.work_dir, '--no-validate')
    assert code == 0, err
    checkpoint = task.work_dir / 'epoch_1.pth'
    published = {
        ema: read_checkpoint(publish_checkpoint(checkpoint, tmp_path / f'{ema}', ema=ema))
        for ema in (None, True, False)
    }
    fc = {ema: content['state_dict']['head.fc.weight'] for ema, content in published.items()}
    stored = read_checkpoint(checkpoint)
    assert torch.equal(fc[None], stored['state_dict']['head.fc.weight'])
    assert torch.equal(fc[True], fc[None])
    assert torch.equal(fc[False], stored['ema_state_dict']['module.head.fc.weight'])
    assert not torch.equal(fc[False], fc[True])
    assert published[True]['meta']['dataset_meta']['classes'] == ('t-shirt', 'trouser', 'pullover')


def test_refusals(tmp_path, fails):
    source = save(tmp_path / 'a.pth')
    out = tmp_path / 'out'
    assert 'checkpoint not found: ' in fails(TOOL, tmp_path / 'nope.pth', out / 'x')
    torch.save({'epoch': 1}, tmp_path / 'none.pth')
    assert f'no weights in {tmp_path / "none.pth"}' in fails(TOOL, tmp_path / 'none.pth', out / 'x')
    assert f'--ema: {source} has no moving average' in fails(TOOL, source, out / 'x', '--ema')
    assert f'cannot write {source / "x-"}' in fails(TOOL, source, source / 'x')
    assert not out.exists()


def test_another_file_is_not_overwritten(tmp_path, fails, snapshot):
    source, out = save(tmp_path / 'a.pth'), tmp_path / 'out'
    path = publish_checkpoint(source, out / 'x')
    before = snapshot(out)
    assert publish_checkpoint(source, out / 'x') == path
    assert snapshot(out) == before
    path.write_bytes(b'another')
    assert f'another file is there already: {path}' in fails(TOOL, source, out / 'x')
    assert path.read_bytes() == b'another'
    assert only_file(out) == path


@pytest.mark.parametrize('options', [[], ['--safetensors']])
def test_published_weights_give_the_same_metrics(options, make_task, tool, save_weights, tmp_path):
    def always_trouser(weights: dict) -> None:
        weights['head.fc.weight'].zero_()
        weights['head.fc.bias'].copy_(torch.tensor([0.0, 1.0, 0.0]))

    task = make_task('classification')
    checkpoint = save_weights(task, always_trouser)
    code, err = tool(TOOL, checkpoint, tmp_path / 'out' / 'trouser', *options)
    assert code == 0, err
    published = only_file(tmp_path / 'out')
    code, err = tool('test', task.config, published, '--work-dir', task.work_dir)
    assert code == 0, err
    metrics = json.loads((task.work_dir / 'metrics.json').read_text())['metrics']
    assert metrics['accuracy/top1'] == 50  # 4 of 8 are trousers


def test_safetensors_start_a_training(make_task, tool, save_weights, tmp_path):
    task = make_task('classification')
    checkpoint = save_weights(task)
    given = torch.load(checkpoint, weights_only=True)['state_dict']
    published = publish_checkpoint(checkpoint, tmp_path / 'tiny', as_safetensors=True)
    pretrained = 'model.backbone.init_cfg'
    code, err = tool(
        'train', task.config, '--work-dir', task.work_dir, '--no-validate',
        '--cfg-options', f'{pretrained}.type=Pretrained', f'{pretrained}.checkpoint={published}',
        f'{pretrained}.prefix=backbone.', 'optim_wrapper.optimizer.lr=0.0',
    )  # fmt: skip
    assert code == 0, err
    trained = read_checkpoint(task.work_dir / 'epoch_1.pth')['state_dict']
    names = [n for n in given if n.startswith('backbone.') and n.endswith(('weight', 'bias'))]
    assert len(names) > 100
    assert all(torch.equal(trained[name], given[name]) for name in names)

    # EMAHook takes a copy of what is under state_dict, which such a file does not have.
    task.config.write_text(task.config.read_text() + "\ncustom_hooks = [dict(type='EMAHook')]\n")
    code, err = tool(
        'train', task.config, '--work-dir', task.work_dir, '--no-validate',
        '--cfg-options', f'load_from={published}', 'optim_wrapper.optimizer.lr=0.0',
    )  # fmt: skip
    assert code == 0, err
    trained = read_checkpoint(task.work_dir / 'epoch_1.pth')['state_dict']
    assert torch.equal(trained['head.fc.weight'], given['head.fc.weight'])


def test_wrong_safetensors(tmp_path, make_task, fails):
    task = make_task('classification')
    whole = publish_checkpoint(save(tmp_path / 'a.pth'), tmp_path / 'x', as_safetensors=True)
    damaged = tmp_path / 'damaged.safetensors'
    for content in (b'', b'PK no such file', whole.read_bytes()[:-3]):
        damaged.write_bytes(content)
        message = f'not a safetensors file, or a damaged one: {damaged}'
        assert message in fails('test', task.config, damaged, '--work-dir', task.work_dir)
    missing = tmp_path / 'nope.safetensors'
    assert f'checkpoint not found: {missing}' in fails('test', task.config, missing)
    assert 'does not fit the model; ' in fails('test', task.config, whole)
    with pytest.raises(InputError, match='cannot resume .* it has no meta, state_dict'):
        read_resumable(whole)
