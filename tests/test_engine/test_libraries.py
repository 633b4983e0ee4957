"""scopevit.engine.libraries: what is installed, and what to say otherwise."""

import importlib
import re
from pathlib import Path

import pytest

from scopevit.engine import libraries
from scopevit.errors import InputError

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize('scope', [None, 'mmcls', 5, ['mmdet'], {}])
def test_scopes_that_are_none(scope):
    with pytest.raises(InputError, match='^default_scope must be one of mmpretrain, .*, not '):
        libraries.find_library(scope)
