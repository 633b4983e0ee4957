"""Configs in checkpoints, read as data."""

import math
from pathlib import Path

import pytest
from mmengine.config import Config

from scopevit.engine.libraries import find_library
from scopevit.errors import InputError
from scopevit.hub import get_config
from scopevit.inference.stored_config import (
    parse_config,
    registered_types,
    stored_config,
    without_initial_weights,
)

CHECKPOINT = Path('x.pth')


@pytest.fixture(autouse=True)
def libraries() -> None:
    for name in ('mmdet', 'mmpretrain'):
        find_library(name)


def test_values():
    text = """'''A docstring.'''
a = dict(b=[1, -2.5, (3, )], c={1: None, 'd': True}, e=-inf)
f = dict(g='text', **a['b']) if False else 0
"""
    first = text.rpartition('\nf =')[0] + '\nf = {"g": a, **a}\nh = dict(b=0, **{"i": nan})\n'
    values = parse_config(first, 'x')
    a = {'b': [1, -2.5, (3,)], 'c': {1: None, 'd': True}, 'e': -math.inf}
    assert values['a'] == a
    assert values['f'] == {'g': a, **a}
    assert values['h']['b'] == 0
    assert math.isnan(values['h']['i'])
    with pytest.raises(InputError, match=r'^x: line 3: .* is code'):
        parse_config(text, 'x')


@pytest.mark.parametrize(
    'name',
    [
        'scopevit-tiny_8xb128_in1k',
        'mask-rcnn_scopevit-tiny_fpn_1x_coco',
        'td-hm_scopevit-tiny_8xb32-210e_coco-256x192',
        'upernet_scopevit-tiny_8xb2-160k_ade20k-512x512',
    ],
)
def test_reads_recipes_as_mmengine_does(name):
    cfg = get_config(name)
    text = cfg.pretty_text
    stored = stored_config(text, CHECKPOINT)
    assert stored.to_dict() == Config.fromstring(text, '.py').to_dict()
    find_library(cfg.default_scope)
    model = stored.model.to_dict()
    assert registered_types(model, 'x') == model


def test_reads_numbers_as_keys_as_mmengine_writes_them():
    content = dict(info={0: dict(name='a'), -1: dict(name='b')}, other=dict(c=1))
    text = Config(content).pretty_text
    assert 'dict({' in text
    assert parse_config(text, 'x') == content
    assert parse_config('a = dict({0: 1}, b=2)', 'x') == {'a': {0: 1, 'b': 2}}


@pytest.mark.parametrize(
    'line',
    [
        'import os',
        "a = __import__('os').system('true')",
        "a = dict(b=open('x'))",
        'a = [b for b in ()]',
        "a = f'{1}'",
        'a = b = 1',
        'a.b = 1',
        'a = unknown',
        'a = dict(dict())',
        'a = dict(**1)',
        'a = {open: 1}',
        'a = 1 + 1',
        'a = lambda: 1',
        'print(1)',
        'def f(): pass',
    ],
)
def test_code_is_refused_by_its_line(line):
    with pytest.raises(InputError, match=r'^config in x.pth: line 2: .*is code.*--config'):
        stored_config(f"default_scope = 'mmdet'\n{line}\n", CHECKPOINT)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a = (', 'config in x.pth: line 1: this is no config'),
        ('a = ' + '(' * 5000 + ')' * 5000, 'this is no config'),
        ("_base_ = 'other.py'", 'inherits from other files'),
        ("custom_imports = dict(imports=['antigravity'])", "custom_imports of 'antigravity'"),
        ("custom_imports = dict(imports='scopevit_evil')", 'imports nothing but'),
    ],
)
def test_other_texts_are_refused(text, message):
    with pytest.raises(InputError, match=message.replace('(', r'\(')):
        stored_config(text, CHECKPOINT)


@pytest.mark.parametrize(
    'part',
    [
        dict(type='os.system', command='true'),
        dict(type='mmengine.load', file='x.pkl'),
        dict(type='antigravity'),
        dict(model=[dict(nms=dict(type="__import__('os').system('true')"))]),
        dict(type='mmpretrain.HuggingFaceClassifier', model_name='x'),
        dict(type='torchvision/ConvertImageDtype', dtype="__import__('os').system('true')"),
        dict(type='ResNet', _scope_='antigravity'),
    ],
)
def test_types_that_would_run_code_are_refused(part):
    with pytest.raises(InputError, match='^x: '):
        registered_types(part, 'x')


def test_types_by_module_become_short():
    part = dict(type='mmdet.models.backbones.ResNet', inner=dict(type='mmcv.transforms.Resize'))
    assert registered_types(part, 'x') == dict(type='mmdet.ResNet', inner=dict(type='Resize'))


def test_no_other_weights_are_asked_for():
    model = dict(pretrained='a', backbone=dict(depth=1, init_cfg=dict(type='Pretrained')))
    assert without_initial_weights(model) == dict(backbone=dict(depth=1))
