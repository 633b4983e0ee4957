"""Which configs are tried, what is taken out of them, and how the outcomes are shown."""

from pathlib import Path

import pytest
from mmengine.config import Config

from scopevit.model_zoo.causes import Outcome, outcome_of
from scopevit.model_zoo.files import ConfigFile, configs_below, one_of_each_family
from scopevit.model_zoo.reading import drop_weights, fingerprint
from scopevit.model_zoo.results import Tried, make_tables

TABLES = """\
| library | files | tried | works | operator | package | versions | other | left out |
| ------- | ----: | ----: | ----: | -------: | ------: | -------: | ----: | -------: |
| mmdet   |     4 |     4 |     1 |        2 |       1 |          |       |          |
| mmpose  |     2 |     1 |       |          |         |          |     1 |          |
| all     |     6 |     5 |     1 |        2 |       1 |          |     1 |          |

### By family

| family            | files | tried | works | operator | package | versions | other | left out |
| ----------------- | ----: | ----: | ----: | -------: | ------: | -------: | ----: | -------: |
| mmdet/atss        |     1 |     1 |     1 |          |         |          |       |          |
| mmdet/dcn         |     2 |     2 |       |        2 |         |          |       |          |
| mmdet/glip        |     1 |     1 |       |          |       1 |          |       |          |
| mmpose/body/simcc |     2 |     1 |       |          |         |          |     1 |          |

### What does not work, and why

| kind     | what                | files | families          |
| -------- | ------------------- | ----: | ----------------- |
| operator | deform_conv_forward |     2 | mmdet/dcn         |
| package  | transformers        |     1 | mmdet/glip        |
| other    | KeyError: 'x\\|y'    |     1 | mmpose/body/simcc |
"""


def file(library: str, family: str, name: str) -> ConfigFile:
    return ConfigFile(library, family, f'{family}/{name}.py', Path(name))


def test_tables_are_those_of_known_outcomes():
    operator = Outcome('operator', 'deform_conv_forward', 'one says this', 'loss')
    outcomes = {
        file('mmdet', 'atss', 'a'): Outcome('works'),
        file('mmdet', 'dcn', 'a'): operator,
        file('mmdet', 'dcn', 'b'): Outcome('operator', 'deform_conv_forward', 'the other that'),
        file('mmdet', 'glip', 'a'): Outcome('package', 'transformers', 'not there'),
        file('mmpose', 'body/simcc', 'a'): Outcome('other', '', "KeyError: 'x|y'"),
        file('mmpose', 'body/simcc', 'b'): None,
    }
    tried = {
        f'{key.library}/{key.name}': Tried(outcome, '', 1.0)
        for key, outcome in outcomes.items()
        if outcome is not None
    }
    assert make_tables(list(outcomes), tried) == TABLES


def test_configs_by_family(tmp_path):
    for name in ('_base_/a.py', 'x/_base_/b.py', 'x/long.py', 'x/z.py', 'x/y.py', 'x/more/0.py'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('a = 1\n' * (9 if 'long' in name else 1))
    found = configs_below(tmp_path, 'mmdet')
    assert [(each.family, each.name) for each in found] == [
        ('x', 'x/long.py'), ('x', 'x/more/0.py'), ('x', 'x/y.py'), ('x', 'x/z.py')
    ]  # fmt: skip
    assert [each.name for each in one_of_each_family(found)] == ['x/y.py']
    deeper = configs_below(tmp_path, 'mmpose')
    assert {each.family for each in deeper} == {'x', 'x/more'}


def test_no_file_of_weights_is_left_in_a_config():
    model = Config(dict(model=dict(
        pretrained='torchvision://resnet50',
        backbone=dict(type='TIMMBackbone', pretrained=True, depth=50),
        heads=[dict(init_cfg=dict(type='Pretrained', checkpoint='a.pth'))],
        neck=dict(init_cfg=[dict(type='Normal', layer='Conv2d', std=0.01)]),
        teacher_ckpt='b.pth',
    ))).model  # fmt: skip
    drop_weights(model)
    assert model.to_dict() == dict(
        pretrained=None,
        backbone=dict(type='TIMMBackbone', pretrained=False, depth=50),
        heads=[dict()],
        neck=dict(init_cfg=[dict(type='Normal', layer='Conv2d', std=0.01)]),
        teacher_ckpt=None,
    )


def test_fingerprints_are_those_of_model_and_inputs():
    def mark(scope, **changes):
        return fingerprint(Config({'model': {'depth': 18}, 'default_scope': scope, **changes}))

    assert mark('mmdet') == mark('mmdet', train_cfg={'max_epochs': 9})
    assert mark('mmdet') == mark('mmdet', train_pipeline=[{'type': 'Resize'}])
    assert mark('mmpose') != mark('mmpose', train_pipeline=[{'type': 'GenerateTarget'}])
    assert mark('mmdet') != mark('mmdet', model={'depth': 34})
    assert mark('mmdet') != mark('mmseg')


@pytest.mark.parametrize(
    ('error', 'kind', 'what'),
    [
        (ImportError('Please run "pip install fairscale".'), 'package', 'fairscale'),
        (
            RuntimeError('skimage is not installed, please use pip install scikit-image'),
            'package',
            'scikit-image',
        ),
        (ModuleNotFoundError("No module named 'transformers'", name='transformers.x'), 'package',
         'transformers'),
        (ModuleNotFoundError("No module named 'mmdet.gone'", name='mmdet.gone'), 'other', ''),
        (AttributeError("module 'numpy' has no attribute 'float'"), 'versions', 'numpy'),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9"), 'other',
         'needs more memory than --memory allows'),
        (ValueError('install of a pip'), 'other', ''),
    ],
)  # fmt: skip
def test_what_errors_mean(error, kind, what):
    outcome = outcome_of(error, 'build')
    assert (outcome.kind, outcome.what, outcome.step) == (kind, what, 'build')


def test_the_cause_of_an_error_counts():
    try:
        try:
            raise ModuleNotFoundError("No module named 'sklearn'", name='sklearn')
        except ModuleNotFoundError as error:
            raise TypeError('class `PAA` in paa.py: something') from error
    except TypeError as error:
        assert outcome_of(error, 'build').what == 'sklearn'


def test_an_error_without_words_is_told_by_its_place():
    try:
        raise AssertionError
    except AssertionError as error:
        reason = outcome_of(error, 'loss').reason
    assert reason == 'AssertionError: in test_zoo_tables.py: raise AssertionError'
