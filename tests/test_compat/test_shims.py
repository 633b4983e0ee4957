"""What all shims have in common: their order, what they declare, and what is recorded of them."""

import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import scopevit
from scopevit import compat

ROOT = Path(scopevit.__file__).parents[1]
FOLDER = Path(compat.__file__).parent
NAMES = [shim.__name__.rpartition('.')[2] for shim in compat.SHIMS]
PARTS = ['Symptom', 'Versions', 'Way out', 'Delete when']

each_shim = pytest.mark.parametrize('shim', compat.SHIMS, ids=NAMES)


def pins():
    """The version that the set-up installs of each library."""
    lines = (ROOT / 'requirements' / 'nodeps.txt').read_text().splitlines()
    return dict(line.split('==') for line in lines if '==' in line)


def outgrown(shim, versions):
    """The libraries whose version is not one that a shim was written for."""
    return [
        library
        for library, written_for in shim.WRITTEN_FOR.items()
        if versions[library] not in SpecifierSet(written_for)
    ]


def test_every_shim_is_in_the_table():
    shims = {path.stem for path in FOLDER.glob('[!_]*.py') if '\ndef apply(' in path.read_text()}
    assert sorted(NAMES) == sorted(shims)


@each_shim
def test_says_what_fails_where_and_until_when(shim):
    assert re.findall(r'^([A-Z][a-z ]+): ', shim.__doc__, re.MULTILINE) == PARTS


@each_shim
def test_has_a_test(shim):
    test = Path(__file__).with_name(f'test_{shim.__name__.rpartition(".")[2]}.py')
    assert re.search('^def test_', test.read_text(), re.MULTILINE)


@each_shim
def test_is_written_for_what_is_installed(shim):
    assert shim.WRITTEN_FOR
    assert outgrown(shim, pins()) == [], (
        f'{shim.__name__} was not written for this version: see whether it is still needed and '
        'still fits, then delete it or widen WRITTEN_FOR'
    )


@each_shim
def test_a_pin_that_leaves_the_range_is_noticed(shim):
    for library in shim.WRITTEN_FOR:
        assert outgrown(shim, {**pins(), library: '99.0'}) == [library]
        assert outgrown(shim, {**pins(), library: '0.1'}) == [library]


@pytest.mark.parametrize('module', ['json', 'mmengine', 'mmengine.runner, mmengine.hub'])
def test_what_acts_is_listed_in_its_order(module, process):
    """Whatever was imported before, and though each of the libraries is asked for twice."""
    code = f"""
import {module}
from scopevit import compat
first = compat.apply()
import mmengine.runner, mmengine.hub, mmengine.logging.history_buffer
from mmcv import ops
print(first == compat.acted[:len(first)], *compat.apply())
"""
    result = process('-c', code)
    assert result.returncode == 0, result.stderr[-3000:]
    is_prefix, *acted = result.stdout.split()
    assert is_prefix == 'True' and len(acted) == len(set(acted))
    assert {'torch_load', 'checkpoint_loader', 'external_configs'} <= set(acted) <= set(NAMES)
    assert acted.index('torch_load') < acted.index('checkpoint_loader')
    # Nobody compiled, asked for pictures or imported a library of a task.
    assert not {'compiled_training', 'mmpose_visualizer', 'mmpretrain_pooling'} & set(acted)


def test_nobody_else_checks_a_version():
    check = r'packaging|digit_version|version_info|__version__ *(?:[<>]|[!=]=)'
    others = [
        path for path in FOLDER.parent.rglob('*.py') if not {'compat', '.mim'} & {*path.parts}
    ]
    assert len(others) > 30
    assert [path for path in others if re.search(check, path.read_text())] == []
