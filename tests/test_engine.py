"""scopevit.engine in parts; tests/test_tools runs it whole."""

import importlib
import json

import pytest
import torch
from mmengine.config import Config
from torch import nn

from scopevit import ScopeViT
from scopevit.engine import cli, config, data, libraries, runner, weights
from scopevit.engine.amp import CPUAmpOptimWrapper
from scopevit.engine.explain import input_errors
from scopevit.errors import InputError


def test_libraries_have_what_the_table_names():
    for name, library in libraries.LIBRARIES.items():
        assert libraries.find_library(name) is library
        registry = importlib.import_module(f'{name}.registry')
        assert library.dump_metric in registry.METRICS
        assert library.visualizer in registry.VISUALIZERS
        hook = registry.HOOKS.get(library.visualization['type'])
        assert hook is not None


def test_missing_library_says_what_to_install(monkeypatch):
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)

    monkeypatch.setattr(importlib, 'import_module', refuse)
    with pytest.raises(InputError, match='^mmseg is not installed: pip install mmsegmentation$'):
        libraries.find_library('mmseg')


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


def test_test_time_augmentation_goes_into_the_innermost_data_set():
    cfg = Config(
        dict(
            model=dict(type='M'),
            test_dataloader=dict(dataset=dict(type='Repeat', dataset=dict(pipeline=[1]))),
            tta_model=dict(type='T'),
            tta_pipeline=[2],
        )
    )
    config.enable_tta(cfg)
    assert cfg.model == dict(type='T', module=dict(type='M'))
    assert cfg.test_dataloader.dataset.dataset.pipeline == [2]


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


def test_unwrapping_a_model():
    model = nn.Identity()
    assert runner.unwrap_model(model) is model


def test_fewer_stages_take_what_they_have_of_a_file(tmp_path):
    whole = ScopeViT('xtiny').state_dict()
    path = tmp_path / 'whole.pth'
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in whole.items()}}, path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    weights.check_pretrained(ScopeViT('xtiny', out_indices=(0, 1), init_cfg=init_cfg))
    with pytest.raises(InputError, match='does not fit'):
        weights.check_pretrained(ScopeViT('tiny', out_indices=(0, 1), init_cfg=init_cfg))
