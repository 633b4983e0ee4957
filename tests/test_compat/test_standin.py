"""The two import hooks and apply()."""

import importlib
import sys

import pytest

from scopevit import compat
from scopevit.compat._after_import import after_import
from scopevit.compat._standin import offer


@pytest.fixture
def hooks(monkeypatch, tmp_path):
    """Hooks and modules of a test vanish after it; the folder of importable files."""
    monkeypatch.setattr(sys, 'meta_path', list(sys.meta_path))
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ours')
    (folder / 'module.py').write_text("origin = 'ours'\ncount = globals().get('count', 0) + 1\n")
    package = folder / 'package'
    package.mkdir()
    (package / '__init__.py').write_text("origin = 'ours'\n")
    (package / 'part.py').write_text('from package_x import origin\n')
    return folder


def test_stand_in_is_used_where_nobody_has_the_module(hooks, ours, acted):
    offer('module_x', ours / 'module.py')
    assert 'module_x' not in sys.modules and acted == []
    module = importlib.import_module('module_x')
    assert (module.origin, module.__name__, module.__spec__.name) == ('ours',) + ('module_x',) * 2
    assert importlib.reload(module).count == 2
    assert acted == ['module']


def test_stand_in_may_be_a_package(hooks, ours):
    offer('package_x', ours / 'package')
    assert importlib.import_module('package_x.part').origin == 'ours'


@pytest.mark.parametrize('first,origin', [(False, 'real'), (True, 'ours')])
def test_a_real_module_wins_unless_it_is_broken(hooks, ours, first, origin, acted):
    (hooks / 'module_x.py').write_text("origin = 'real'\n")
    offer('module_x', ours / 'module.py', first=first)
    assert importlib.import_module('module_x').origin == origin
    assert acted == (['module'] if first else [])


def test_after_import(hooks):
    (hooks / 'library_x.py').write_text('value = 1\n')
    seen = []
    after_import('library_x', lambda module: seen.append(module.value))
    assert seen == [] and 'library_x' not in sys.modules
    module = importlib.import_module('library_x')
    assert seen == [1]
    assert module.__spec__.loader.get_source('library_x') == 'value = 1\n'


def test_after_import_of_a_module_that_is_there(hooks):
    (hooks / 'library_x.py').write_text('value = 1\n')
    importlib.import_module('library_x')
    seen = []

    def see(module):
        seen.append(module.value)

    after_import('library_x', see)
    after_import('library_x', see)
    assert seen == [1]
    after_import('library_x', lambda module: seen.append('another'))
    assert seen == [1, 'another']


def test_several_functions_wait_for_one_module(hooks):
    (hooks / 'library_x.py').write_text('value = 1\n')
    seen = []
    after_import('library_x', lambda module: seen.append('first'))
    after_import('library_x', lambda module: seen.append('second'))
    importlib.import_module('library_x')
    assert seen == ['first', 'second']


def test_apply_twice_changes_nothing():
    import torch

    compat.apply()
    hooks_before = list(sys.meta_path)
    globals_before = set(torch.serialization.get_safe_globals())
    compat.apply()
    assert sys.meta_path == hooks_before
    assert set(torch.serialization.get_safe_globals()) == globals_before
