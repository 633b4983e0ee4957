"""What setup.py builds, and what is said about the package elsewhere."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from scopevit import __version__

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / 'requirements'
FILES = ('LICENSE', 'MANIFEST.in', 'pyproject.toml', 'setup.py', 'requirements', 'scopevit')
BUILD = """
from setuptools import build_meta
build_meta.build_sdist('dist')
build_meta.build_wheel('dist')
"""
# Declared by the pinned libraries and not installed; requirements/nodeps.txt says why.
LEFT_OUT = {'chumpy', 'opencv-python', 'xtcocotools'}
# Whose absence, or newer version, scopevit/compat exists for.
ADAPTED = {'pkg_resources', 'transformers', 'xtcocotools'}
PACKAGES = {
    'PIL': 'pillow',
    'cv2': 'opencv-python-headless',
    'mmcv': 'mmcv-lite',
    'mmseg': 'mmsegmentation',
    'yaml': 'pyyaml',
}


def normalize(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


def names(*roles: str) -> set[str]:
    """The names in requirements/<role>.txt."""
    lines = [line for r in roles for line in (REQUIREMENTS / f'{r}.txt').read_text().splitlines()]
    return {
        normalize(match[0]) for match in (re.match(r'[\w.-]+', line) for line in lines) if match
    }


@pytest.fixture(scope='module')
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built away from the repository."""
    folder = tmp_path_factory.mktemp('build')
    for name in FILES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns('__pycache__')
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder)
    command = [sys.executable, '-c', BUILD]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return folder / 'dist'


@pytest.fixture(scope='module')
def package_info(built: Path) -> Message:
    with zipfile.ZipFile(next(built.glob('*.whl'))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith('/METADATA'))
        return Parser().parsestr(wheel.read(name).decode())


def test_every_module_is_in_the_wheel(built):
    with zipfile.ZipFile(next(built.glob('*.whl'))) as wheel:
        contents = {name for name in wheel.namelist() if '.dist-info/' not in name}
    assert contents == {str(p.relative_to(ROOT)) for p in (ROOT / 'scopevit').rglob('*.py')}


def test_sdist_can_be_built_from(built):
    with tarfile.open(next(built.glob('*.tar.gz'))) as sdist:
        contents = {name.partition('/')[2] for name in sdist.getnames()}
    assert {'setup.py', 'pyproject.toml', 'LICENSE'} <= contents
    assert {f'requirements/{path.name}' for path in REQUIREMENTS.glob('*.txt')} <= contents


def test_metadata(package_info):
    assert package_info['Name'] == 'scopevit'
    assert package_info['Version'] == __version__
    assert package_info['Requires-Python'] == '>=3.10'
    assert set(package_info.get_all('Provides-Extra')) == {'tasks', 'tests', 'dev', 'data'}
    required = package_info.get_all('Requires-Dist')
    runtime = {normalize(re.match(r'[\w.-]+', r)[0]) for r in required if 'extra ==' not in r}
    assert runtime == names('runtime') | {'mmengine', 'mmcv-lite'}
    assert 'mmdet==3.3.0; extra == "tasks"' in required


@pytest.mark.parametrize(
    'library', ['mmengine', 'mmcv-lite', 'mmdet', 'mmpose', 'mmpretrain', 'mmsegmentation']
)
def test_what_a_library_declares_is_listed(library):
    try:
        declared = metadata.requires(library) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f'{library} is not installed')
    declared = {
        normalize(re.match(r'[\w.-]+', line)[0])
        for line in declared
        if 'extra ==' not in line and 'win32' not in line
    }
    assert declared - LEFT_OUT <= names('runtime', 'nodeps', 'tasks')


@pytest.mark.parametrize(
    ('folder', 'roles'),
    [
        ('scopevit', ('runtime', 'nodeps', 'tasks')),
        ('tools', ('runtime', 'nodeps', 'tasks', 'data')),
        ('tests', ('runtime', 'nodeps', 'tasks', 'tests')),
    ],
)
def test_every_import_is_listed(folder, roles):
    own = {'scopevit', *(path.stem for path in (ROOT / folder).rglob('*.py'))}
    listed = names(*roles)
    missing = {}
    for path in (ROOT / folder).rglob('*.py'):
        for module in imported(path) - own - sys.stdlib_module_names:
            optional = 'compat' in path.parent.parts[-1] and module in ADAPTED
            if not optional and normalize(PACKAGES.get(module, module)) not in listed:
                missing[str(path.relative_to(ROOT))] = module
    assert not missing


def imported(path: Path) -> set[str]:
    """The top-level names of what a file imports."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module)
    return {module.partition('.')[0] for module in modules}


def test_nothing_brings_opencv_with_windows():
    listed = names(*(path.stem for path in REQUIREMENTS.glob('*.txt')))
    assert not listed & {'mmcv', 'opencv-contrib-python', *LEFT_OUT}


def test_citation():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert {'cff-version', 'message', 'title', 'authors'} <= set(citation)
    assert citation['version'] == __version__
    paper = citation['preferred-citation']
    assert paper['doi'] == '10.1016/j.patcog.2024.110470'
    assert paper['year'] == 2024
    assert all({'family-names', 'given-names'} == set(author) for author in paper['authors'])


def test_one_ruff_everywhere():
    hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())
    version = re.search(r'^ruff==([\d.]+)', (REQUIREMENTS / 'dev.txt').read_text(), re.MULTILINE)[1]
    assert [repo['rev'] for repo in hooks['repos']] == [f'v{version}']
