"""scopevit.engine in parts; tests/test_tools runs it whole."""

import errno
import importlib
import json
import logging
import os
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.logging import MessageHub
from torch import nn

from scopevit import ScopeViT
from scopevit.checkpoint import read_checkpoint, strip_prefix, unwrap_state_dict
from scopevit.engine import cli, config, data, libraries, run, runner, weights
from scopevit.engine.amp import CPUAmpOptimWrapper
from scopevit.engine.explain import input_errors
from scopevit.errors import InputError

ROOT = Path(__file__).parents[1]


def test_libraries_have_what_the_table_names():
    for name, library in libraries.LIBRARIES.items():
        assert libraries.find_library(name) is library
        registry = importlib.import_module(f'{name}.registry')
        assert library.dump_metric in registry.METRICS
        assert library.visualizer in registry.VISUALIZERS
        hook = registry.HOOKS.get(library.visualization['type'])
        assert hook is not None
        models = importlib.import_module(f'{name}.registry').MODELS
        assert library.tta_model is None or library.tta_model['type'] in models


def test_missing_library_says_what_to_install(monkeypatch):
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)

    monkeypatch.setattr(importlib, 'import_module', refuse)
    with pytest.raises(InputError, match='^mmseg is not installed: pip install mmsegmentation, or'):
        libraries.find_library('mmseg')
    with pytest.raises(InputError, match='pip install --no-deps mmpose==1.3.2, or'):
        libraries.find_library('mmpose')


@pytest.mark.parametrize('name', ['cv2', 'mmcv.ops', 'mmengine', 'PIL'])
def test_what_pip_alone_would_not_install(name):
    error = libraries.missing_module(ModuleNotFoundError('No module named', name=name))
    root = name.partition('.')[0]
    said = f'{root} is not installed: run tools/install.sh PYTHON (see README.md)'
    assert str(error) == said


def test_versions_of_the_packages_are_those_of_the_requirements():
    text = (ROOT / 'requirements' / 'nodeps.txt').read_text()
    pinned = re.search('^mmpose==.*', text, re.MULTILINE)[0]
    assert libraries.LIBRARIES['mmpose'].package == f'--no-deps {pinned}'


def test_missing_dependency_of_a_library(monkeypatch):
    def refuse(name: str) -> None:
        raise ModuleNotFoundError('No module named', name='terminaltables.x')

    monkeypatch.setattr(importlib, 'import_module', refuse)
    with pytest.raises(InputError, match='^terminaltables is not installed'):
        libraries.find_library('mmdet')


@pytest.mark.parametrize('error', [TypeError('a'), ValueError('b'), KeyError('c'), RuntimeError()])
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as caught, input_errors('config.py'):
        raise error
    assert caught.value is error


def test_error_of_a_loading_process_is_its_last_line():
    message = (
        'Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
        'last):\n  File "a.py", line 1\nOSError: b\n\nThe above exception was the direct cause of '
        'the following exception:\n\nscopevit.errors.InputError: cannot load b.jpg: no image\n'
    )
    with pytest.raises(InputError) as caught, input_errors('config.py'):
        raise InputError(message)
    assert str(caught.value).strip() == 'cannot load b.jpg: no image'


def test_tool_with_a_bug_shows_its_traceback():
    def tool(argv: list[str] | None) -> None:
        raise TypeError('a bug')

    with pytest.raises(TypeError, match='a bug'):
        cli.run_tool(tool)


def test_differences_of_weights():
    expected = {
        'a.weight': torch.zeros(2, 3),
        'b.weight': torch.zeros(4),
        'c.num_batches_tracked': torch.tensor(0),
    }
    given = {'a.weight': torch.zeros(3, 2), 'd': torch.zeros(1)}
    problems = weights.compare(expected, given)
    assert problems == {
        'a.weight': '(3, 2) instead of (2, 3)',
        'b.weight': 'missing',
        'd': 'unexpected',
    }
    assert weights.describe(problems) == (
        '1 missing: b.weight; 1 unexpected: d; '
        '1 of another shape: a.weight (3, 2) instead of (2, 3)'
    )
    many = {f'w{i}': 'missing' for i in range(7)}
    assert weights.describe(many) == '7 missing: w0, w1, w2, w3, w4, ...'


def test_test_time_augmentation_goes_into_the_innermost_data_sets():
    parts = [dict(type='A', pipeline=[1]), dict(type='Repeat', dataset=dict(pipeline=[1]))]
    cfg = Config(
        dict(
            model=dict(type='M'),
            test_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=parts)),
            tta_model=dict(type='T'),
            tta_pipeline=[2],
        )
    )
    config.enable_tta(cfg, libraries.LIBRARIES['mmpose'])
    assert cfg.model == dict(type='T', module=dict(type='M'))
    first, second = cfg.test_dataloader.dataset.datasets
    assert first.pipeline == second.dataset.pipeline == [2]
    assert 'pipeline' not in cfg.test_dataloader.dataset


def test_annotations_are_not_flipped():
    load, resize = dict(type='LoadImageFromFile'), dict(type='mmseg.Resize', scale=64)
    annotations = dict(type='LoadAnnotations')
    pack = dict(type='PackSegInputs', meta_keys=('img_path', 'flip'))
    flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
    packed = dict(type='PackSegInputs', meta_keys=('img_path', 'flip', 'flip_direction'))
    augment = dict(type='TestTimeAug', transforms=[flips, [annotations], [packed]])
    for pipeline in ([load, resize, annotations, pack], [load, annotations, resize, pack]):
        assert config.flip_pipeline(pipeline) == [load, resize, augment]
    assert pack['meta_keys'] == ('img_path', 'flip')
    for pipeline in ([], [load], [load, dict(type='TestTimeAug')]):
        with pytest.raises(InputError, match='needs a tta_pipeline'):
            config.flip_pipeline(pipeline)


def test_options_may_add_what_the_runner_knows():
    cfg = Config(dict(model=dict()))
    config.merge_options(cfg, {'randomness.seed': 3, 'model.backbone.depth': 1})
    assert cfg.randomness.seed == 3
    assert cfg.model.backbone.depth == 1


def test_wrapped_data_sets_are_checked(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(dict(images=[], categories=[dict(id=1, name='cat')])))
    leaf = dict(type='CocoDataset', ann_file=str(path), metainfo=dict(classes=('dog',)))
    wrapped = dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[leaf]))
    with pytest.raises(InputError, match='classes without a category: dog'):
        data.check_dataset_files(wrapped, 'train_dataloader.dataset', 'mmdet')
    leaf['metainfo']['classes'] = ('cat',)
    data.check_dataset_files(wrapped, 'train_dataloader.dataset', 'mmdet')


def test_classes_of_a_data_set_by_its_type():
    libraries.find_library('mmdet')
    assert len(data.dataset_classes(dict(type='CocoDataset'), 'mmdet')) == 80
    assert data.dataset_classes(dict(type='CocoDataset'), 'mmpose') == []


def test_class_counts_leave_region_proposals_out():
    model = nn.Module()
    for name in ('backbone', 'rpn_head', 'bbox_head'):
        part = nn.Module()
        part.num_classes = 7
        model.add_module(name, part)
    assert data.class_counts(model) == {'bbox_head': 7}


def test_amp_on_the_cpu_runs_the_backbone_in_bfloat16():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Backbone()

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1, bias=False)
            nn.init.ones_(self.layer.weight)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.layer(x),)

    model = Model()
    wrapper = CPUAmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=1))
    # Between 1 and 2, bfloat16 knows steps of 1 / 128.
    x = torch.tensor([[1 + 1 / 1024]])
    with wrapper.optim_context(model):
        (out,) = model.backbone(x)
    assert out.dtype == torch.float32
    assert out.item() == 1
    assert model.backbone(x)[0].item() == 1 + 1 / 1024


@pytest.mark.parametrize('metrics', [['a'], ['a', 'b']])
def test_best_checkpoints_go_after_the_next_are_written(metrics, tmp_path):
    hook = runner.CarefulCheckpointHook(save_best=metrics, rule='greater', save_last=False)
    hook.out_dir, hook.last_ckpt = str(tmp_path), None
    hook.file_backend = LocalBackend()
    hook.filename_tmpl = 'epoch_{}'
    if len(metrics) > 1:
        hook.best_ckpt_path_dict = dict.fromkeys(metrics)
    seen = []

    class FakeRunner:
        epoch = 0
        iter = 0
        logger = logging.getLogger('test')
        message_hub = MessageHub('test_best_checkpoints')

        def save_checkpoint(self, out_dir: str, filename: str, **kwargs) -> None:
            (tmp_path / filename).touch()
            seen.append(sorted(path.name for path in tmp_path.iterdir()))

    fake = FakeRunner()
    for scores in ({'a': 1, 'b': 2}, {'a': 2, 'b': 1}, {'a': 0, 'b': 3}):
        fake.epoch += 1
        hook._save_best_checkpoint(fake, scores)
    left = sorted(path.name for path in tmp_path.iterdir())
    if len(metrics) == 1:
        assert seen == [['best_a_epoch_1'], ['best_a_epoch_1', 'best_a_epoch_2']]
        assert left == ['best_a_epoch_2']
    else:
        assert seen[2:] == [
            ['best_a_epoch_1', 'best_a_epoch_2', 'best_b_epoch_1'],
            ['best_a_epoch_2', 'best_b_epoch_1', 'best_b_epoch_3'],
        ]
        assert left == ['best_a_epoch_2', 'best_b_epoch_3']


def test_unwrapping_a_model():
    model = nn.Identity()
    assert runner.unwrap_model(model) is model


@pytest.mark.parametrize(
    'content', [{'state_dict': [torch.ones(1)]}, {1: torch.ones(1)}, {'state_dict': {1: 2}}, 3, {}]
)
def test_files_without_weights(content, tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(content, path)
    with pytest.raises(InputError, match=f'^no weights in {path}: '):
        weights.read_state_dict(path)


@pytest.mark.parametrize('content', [3, torch.ones(2), ['meta', 'state_dict', 'message_hub']])
def test_files_that_no_training_wrote(content, tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(content, path)
    said = f'^cannot resume from {path}, it has no meta, state_dict, message_hub; '
    with pytest.raises(InputError, match=said):
        weights.check_resumable(path)
    torch.save({'meta': content, 'state_dict': {}, 'message_hub': {}}, path)
    with pytest.raises(InputError, match='it has no meta.epoch, meta.iter; '):
        weights.check_resumable(path)


def test_checkpoint_that_cannot_be_opened(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=f'^cannot read {tmp_path}: Is a directory$'):
        read_checkpoint(tmp_path)
    path = tmp_path / 'a.pth'
    torch.save({}, path)

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(type(path), 'open', refuse)
    with pytest.raises(InputError, match=f'^cannot read {path}: Permission denied$'):
        read_checkpoint(path)


def test_one_name_for_two_weights():
    state_dict = {'a': torch.ones(1), 'module.a': torch.ones(1)}
    with pytest.raises(InputError, match='both a and module.a'):
        strip_prefix(state_dict, 'module.')
    with pytest.raises(InputError, match='both a and module.a'):
        unwrap_state_dict(state_dict, 'a.pth')


def test_parameters_of_a_model_without_backbone():
    assert run.count_parameters(nn.Linear(2, 1)) == {'total': 3}


def test_amp_on_the_cpu_needs_a_backbone():
    model = nn.Linear(1, 1)
    wrapper = CPUAmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=1))
    with pytest.raises(InputError, match='Linear has no backbone'), wrapper.optim_context(model):
        pass


def test_fewer_stages_take_what_they_have_of_a_file(tmp_path):
    whole = ScopeViT('xtiny').state_dict()
    path = tmp_path / 'whole.pth'
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in whole.items()}}, path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    weights.check_pretrained(ScopeViT('xtiny', out_indices=(0, 1), init_cfg=init_cfg))
    with pytest.raises(InputError, match='does not fit'):
        weights.check_pretrained(ScopeViT('tiny', out_indices=(0, 1), init_cfg=init_cfg))
