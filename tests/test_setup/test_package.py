"""What setup.py builds, and what is said about the package elsewhere."""

import ast
import os
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
FILES = (
    'LICENSE',
    'MANIFEST.in',
    'configs',
    'model-index.yml',
    'pyproject.toml',
    'requirements',
    'scopevit',
    'scopevit_command.py',
    'setup.py',
    'tools',
)
NEED_A_CLONE = (
    'tools/benchmark/compare_checkouts.py',
    'tools/benchmark/race.py',
    'tools/benchmark/zoo.py',
    'tools/compat/matrix.',
    'tools/dataset_converters/',
    'tools/demo/',
    'tools/docs/',
    'tools/gpu/',
    'tools/install.sh',
    'tools/trials/',
)
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
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
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


def files(folder: str, *suffixes: str) -> set[str]:
    """The files in a folder of the repository that end so, by their path in it."""
    paths = (ROOT / folder).rglob('*')
    return {str(path.relative_to(ROOT)) for path in paths if path.name.endswith(suffixes)}


def data_files() -> set[str]:
    """What is linked to from scopevit/.mim."""
    tools = files('tools', '.py', '.sh', '.yml')
    tools = {name for name in tools if not name.startswith(NEED_A_CLONE)}
    return files('configs', '.py', '.yml', '.md') | tools


def test_wheel_has_modules_configs_and_tools(built):
    with zipfile.ZipFile(next(built.glob('*.whl'))) as wheel:
        contents = {name for name in wheel.namelist() if '.dist-info/' not in name}
    linked = {f'scopevit/.mim/{name}' for name in data_files() | {'model-index.yml'}}
    assert contents == files('scopevit', '.py', 'py.typed') | {'scopevit_command.py'} | linked
    assert 'scopevit/py.typed' in contents


def test_sdist_can_be_built_from(built):
    with tarfile.open(next(built.glob('*.tar.gz'))) as sdist:
        contents = {member.name.partition('/')[2]: member for member in sdist.getmembers()}
    assert {'setup.py', 'pyproject.toml', 'LICENSE', 'model-index.yml'} <= set(contents)
    assert {f'requirements/{path.name}' for path in REQUIREMENTS.glob('*.txt')} <= set(contents)
    assert all(contents[f'scopevit/.mim/{name}'].isreg() for name in data_files())
    assert not [name for name in contents if name.startswith(('data/', 'docs/', 'work_dirs/'))]


INSTALLED = """
import sys
from pathlib import Path

import scopevit
from mmengine.config import Config
from mmengine.hub import get_config

target = Path(sys.argv[1])
assert Path(scopevit.__file__).is_relative_to(target), scopevit.__file__
cfg = Config.fromfile('mine.py')
assert cfg.default_scope == 'mmpretrain' and cfg.model.head.num_classes == 5, cfg
assert cfg.model.backbone.arch == 'tiny' and cfg.train_dataloader.batch_size == 128, cfg
cfg = get_config('scopevit::detection/mask-rcnn_scopevit-tiny_fpn_1x_coco.py')
assert Path(cfg.filename).is_relative_to(target), cfg.filename
assert 'scopevit-small_8xb128_in1k' in scopevit.list_models()
model = scopevit.get_model('scopevit-xtiny_8xb128_in1k')
assert len(model.backbone.stages) == 4
tools = target / 'scopevit' / '.mim' / 'tools'
console_script = next(target.glob('*.dist-info/entry_points.txt')).read_text()
assert 'scopevit = scopevit_command:main' in console_script.splitlines(), console_script
import scopevit_command
assert Path(scopevit_command.__file__).parent == target
assert scopevit_command.main(['info', '--json']) == 0
assert (tools / 'train.py').is_file() and (tools / 'dist_train.sh').stat().st_mode & 0o100
"""


def test_installed_wheel_works_elsewhere(built, tmp_path):
    target, elsewhere = tmp_path / 'target', tmp_path / 'elsewhere'
    options = ['--no-deps', '--no-index', '--no-compile', '--target', str(target)]
    pip = [sys.executable, '-m', 'pip', 'install', *options, str(next(built.glob('*.whl')))]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    elsewhere.mkdir()
    (elsewhere / 'mine.py').write_text(
        "_base_ = 'scopevit::classification/scopevit-tiny_8xb128_in1k.py'\n"
        'model = dict(head=dict(num_classes=5))\n'
    )
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(target)}
    result = subprocess.run(
        [sys.executable, '-c', INSTALLED, str(target)],
        cwd=elsewhere,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('name', ['configs', 'tools', 'model-index.yml'])
def test_links_of_a_clone(name):
    link = ROOT / 'scopevit' / '.mim' / name
    assert link.readlink() == Path('..', '..', name)
    assert link.samefile(ROOT / name)


def test_metadata(package_info):
    assert package_info['Name'] == 'scopevit'
    assert package_info['Version'] == __version__
    assert package_info['Requires-Python'] == '>=3.10'
    extras = {'tasks', 'tests', 'dev', 'data', 'export', 'logging', 'supervision'}
    assert set(package_info.get_all('Provides-Extra')) == extras
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
        ('scopevit', ('runtime', 'nodeps', 'tasks', 'export')),
        ('tools', ('runtime', 'nodeps', 'tasks', 'data')),
        ('tests', ('runtime', 'nodeps', 'tasks', 'tests')),
    ],
)
def test_every_import_is_listed(folder, roles):
    # tools/gpu runs cases of the tests.
    folders = (folder, 'tests') if folder == 'tools' else (folder,)
    own = {path.stem for name in folders for path in (ROOT / name).rglob('*.py')}
    own |= {path.parent.name for name in folders for path in (ROOT / name).rglob('__init__.py')}
    own |= {'scopevit', 'scopevit_command'}
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
