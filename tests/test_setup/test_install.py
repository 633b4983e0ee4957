"""The Makefile, tools/install.sh and .ci/run, on a Python that only pretends to install."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ('Makefile', 'setup.py', 'requirements', 'tools/install.sh', '.ci/run')
PYTEST = '-m pytest -n 2 --dist worksteal'

# Says what it was run with; makes virtual environments of itself.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    *sys.version_info\\ *) exit "${TOO_OLD:-0}" ;;
    *'import ensurepip') exit "${NO_ENSUREPIP:-0}" ;;
    *python%d*) echo python3.11-venv ;;
    '- '*) ;;
    '-m venv '*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *)
        echo "ran $*"
        case "$*" in *stdin) cat ;; esac
        case "$*" in *${FAIL_AT:-no such thing}*) exit 1 ;; esac
        ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files of the set-up alone, with no .venv."""
    folder = tmp_path / 'a clone'
    for name in FILES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target)
        else:
            shutil.copy(ROOT / name, target)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """A function that runs a command where `python3` is the fake and little else is on PATH."""
    programs = tmp_path / 'bin'
    programs.mkdir()
    for name in (
        'bash',
        'cat',
        'sh',
        'cp',
        'dirname',
        'echo',
        'env',
        'grep',
        'make',
        'mkdir',
        'rm',
        'touch',
    ):
        (programs / name).symlink_to(shutil.which(name))
    # never root, so that nothing is installed on the machine
    for name, text in (('python3', FAKE_PYTHON), ('id', '#!/bin/sh\necho 1000\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    def run(folder: Path, *command: object, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env={'PATH': str(programs), **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def errors(result: subprocess.CompletedProcess) -> list[str]:
    """What a failed make printed to stderr, but for its own line."""
    assert result.returncode != 0
    return [line for line in result.stderr.splitlines() if not line.startswith('make')]


def test_help_comes_first(clone, run):
    result = run(clone, 'make')
    assert result.returncode == 0
    for target in ('setup', 'demo', 'test', 'test-all', 'lint', 'types', 'clean'):
        assert f'make {target}' in result.stdout


def test_demo_and_test(clone, run):
    assert 'ran tools/demo/run.py\n' in run(clone, 'make', 'demo').stdout
    assert 'ran tools/demo/run.py --task pose\n' in run(clone, 'make', 'demo', 'TASK=pose').stdout
    assert f'ran {PYTEST} -m not slow -x\n' in run(clone, 'make', 'test', 'ARGS=-x').stdout
    assert f'ran {PYTEST} -x\n' in run(clone, 'make', 'test-all', 'ARGS=-x').stdout


def test_set_up_once(clone, run):
    first = run(clone, 'make', 'setup')
    assert first.returncode == 0, first.stderr
    pip = [line for line in first.stdout.splitlines() if line.startswith('ran -m pip')]
    assert len(pip) == 3
    assert all('--only-binary=:all:' in line for line in pip[:2])
    assert all('--no-deps' in line for line in pip[1:])
    assert pip[2].endswith(f'-e {clone}')
    assert 'pip' not in run(clone, 'make', 'setup').stdout


@pytest.mark.parametrize('name', ['setup.py', 'requirements/tasks.txt', 'requirements/new.txt'])
def test_set_up_again_when_requirements_change(clone, run, name):
    run(clone, 'make', 'setup')
    stamp = clone / '.venv' / '.complete'
    os.utime(stamp, (1, 1))
    for path in clone.rglob('*'):
        if '.venv' not in path.parts:
            os.utime(path, (0, 0))
    assert 'pip' not in run(clone, 'make', 'setup').stdout
    (clone / name).touch()
    assert 'pip' in run(clone, 'make', 'setup').stdout


@pytest.mark.parametrize('step', ['runtime.txt', 'stdin', '-e'])
def test_interrupted_set_up_does_not_count(clone, run, step):
    result = run(clone, 'make', 'setup', FAIL_AT=step)
    assert result.returncode != 0
    assert not (clone / '.venv' / '.complete').exists()
    half_there = clone / '.venv' / 'half_there'
    half_there.touch()
    assert 'ran -m pip' in run(clone, 'make', 'setup').stdout
    assert not half_there.exists()


# Prints what it was asked for, and the requirements it reads.
FAKE_PIP = """
import sys
print('ran -m pip', *sys.argv[1:])
if '/dev/stdin' in sys.argv:
    print(sys.stdin.read())
"""
NODEPS = {
    'mmengine==0.10.7',
    'mmcv-lite==2.1.0',
    'mmdet==3.3.0',
    'mmpose==1.3.2',
    'mmpretrain==1.2.0',
    'mmsegmentation==1.2.2',
    'opencv-python-headless',
}


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment whose pip is a fake."""
    folder = tmp_path / 'environment'
    venv.create(folder, symlinks=True)
    (packages(folder) / 'pip').mkdir()
    (packages(folder) / 'pip' / '__main__.py').write_text(FAKE_PIP)
    return folder


def packages(environment: Path) -> Path:
    """The folder of an environment's packages."""
    return next(environment.glob('lib/python3*/site-packages'))


def add_package(environment: Path, name: str, *modules: str, code: str = '') -> None:
    """Puts modules into an environment as pip does for a package of a name."""
    info = packages(environment) / f'{name.replace("-", "_")}-9.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 9\n')
    (info / 'top_level.txt').write_text('\n'.join(modules))
    for module in modules:
        (packages(environment) / module).mkdir(exist_ok=True)
        (packages(environment) / module / '__init__.py').write_text(code)


@pytest.mark.parametrize(
    ('installed', 'kept'),
    [
        ([], set()),
        ([('onedl-mmcv', 'mmcv'), ('onedl-mmdetection', 'mmdet')], {'mmcv-lite', 'mmdet'}),
        ([('onedl_mmsegmentation', 'mmseg'), ('onedl-mmengine', 'mmengine')],
         {'mmsegmentation', 'mmengine'}),
        ([('mmcv', 'mmcv')], {'mmcv-lite'}),  # compiled
        ([('mmcv', 'mmcv'), ('mmcv-lite', 'mmcv')], {'mmcv-lite'}),
        ([('mmcv_lite', 'mmcv'), ('mmdet', 'mmdet')], set()),  # pip looks at their versions
        ([('opencv-python', 'cv2')], {'opencv-python-headless'}),
        ([(line.partition('==')[0] + '-fork', module) for line, module in zip(
            sorted(NODEPS), ('mmcv', 'mmdet', 'mmengine', 'mmpose', 'mmpretrain', 'mmseg', 'cv2'))],
         {line.partition('==')[0] for line in NODEPS}),
    ],
    ids=['none', 'forks', 'more-forks', 'compiled', 'both', 'own', 'opencv', 'all'],
)  # fmt: skip
def test_what_other_packages_bring_is_left_alone(clone, run, environment, installed, kept):
    for name, module in installed:
        add_package(environment, name, module)
    result = run(clone, clone / 'tools' / 'install.sh', environment / 'bin' / 'python')
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert {line for line in lines if line in NODEPS} == {
        line for line in NODEPS if line.partition('==')[0] not in kept
    }
    assert not any(line.startswith('#') for line in lines)
    said = [line for line in lines if line.startswith('left as they are, from other packages: ')]
    assert {name for line in said for name in line.partition(': ')[2].split(', ')} == kept


def test_opencv_that_does_not_import_is_replaced(clone, run, environment):
    add_package(environment, 'opencv-python', 'cv2', code="raise ImportError('libGL.so.1')")
    result = run(clone, clone / 'tools' / 'install.sh', environment / 'bin' / 'python')
    assert 'opencv-python-headless' in result.stdout.splitlines()


def test_only_compat(clone, run):
    """Without what tests and developers need; make still has to complete it."""
    result = run(clone, clone / 'tools' / 'install.sh', '--only-compat')
    assert result.returncode == 0, result.stderr
    first, second, last = [line for line in result.stdout.splitlines() if line.startswith('ran')]
    roles = [f'-r {clone}/requirements/{role}.txt' for role in ('runtime', 'tasks')]
    assert first.endswith(' --only-binary=:all: ' + ' '.join(roles))
    assert second.endswith(' --only-binary=:all: --no-deps -r /dev/stdin')
    assert set(result.stdout.splitlines()) >= NODEPS
    assert last.endswith(f' --no-deps -e {clone}')  # pip brings setuptools
    assert not (clone / '.venv' / '.complete').exists()
    assert 'requirements/tests.txt' in run(clone, 'make', 'setup').stdout
    elsewhere = run(clone, clone / 'tools' / 'install.sh', '--only-compat', 'python3')
    assert [line for line in elsewhere.stdout.splitlines() if line.startswith('ran')] == [
        first, second, last
    ]  # fmt: skip


def test_environment_made_by_hand_is_kept(clone, run):
    python = clone / '.venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    (clone / '.venv' / 'mine').touch()
    assert run(clone, 'make', 'setup').returncode == 0
    assert (clone / '.venv' / 'mine').exists()


def test_no_python(clone, run):
    (line,) = errors(run(clone, 'make', 'setup', TOO_OLD='1'))
    assert line.startswith('error: there is no python3 >= 3.10 on PATH')


def test_no_ensurepip(clone, run):
    result = run(clone, 'make', 'setup', NO_ENSUREPIP='1')
    (line,) = errors(result)
    assert line.endswith('run sudo apt-get install python3.11-venv')


@pytest.mark.parametrize('target', ['setup', 'demo', 'test', 'lint'])
def test_foreign_python_that_lacks_packages(target, tmp_path):
    environment = tmp_path / 'environment'
    venv.create(environment, symlinks=True)
    python = environment / 'bin' / 'python'
    before = sorted(environment.rglob('*'))
    result = subprocess.run(
        ['make', target],
        cwd=ROOT,
        env={'PATH': os.environ['PATH'], 'PYTHON': str(python)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    (line,) = errors(result)
    lacks = 'mypy, pre-commit, ruff' if target == 'lint' else 'torch, torchvision, numpy'
    assert line.startswith(f'error: {python} lacks {lacks}')
    assert f'run tools/install.sh {python}' in line
    assert (' pytest,' in line) == (target in ('setup', 'test'))
    assert sorted(environment.rglob('*')) == before


def test_foreign_python_that_is_none(clone, run):
    (line,) = errors(run(clone, 'make', 'demo', 'PYTHON=/no/such/python'))
    assert line == 'error: there is no Python at /no/such/python'
    (line,) = errors(run(clone, 'make', 'demo', 'PYTHON=python3', TOO_OLD='1'))
    assert line == 'error: python3 is no Python >= 3.10'


def test_complete_foreign_python_is_used_as_it_is(clone, run):
    result = run(clone, 'make', 'test', PYTHON='python3')
    assert result.stdout.splitlines()[-1] == f'ran {PYTEST} -m not slow'
    assert 'pip' not in result.stdout
    assert not (clone / '.venv').exists()


def test_this_python_is_complete():
    roles = ('runtime', 'nodeps', 'tasks', 'tests')
    command = [ROOT / 'tools' / 'install.sh', '--check', sys.executable, *roles]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, '')


@pytest.mark.parametrize('flags', ['', 'n', '-j8'])
def test_ci_run(clone, run, flags):
    result = run(clone, clone / '.ci' / 'run', CI='true', MAKEFLAGS=flags)
    assert result.returncode == 0, result.stderr
    ran = [line for line in result.stdout.splitlines() if line.startswith('ran -m')]
    assert [line for line in ran if ' pip ' not in line] == [
        'ran -m ruff check',
        'ran -m ruff format --check',
        'ran -m mypy',
        f'ran {PYTEST} -m not slow --durations=25',
        f'ran {PYTEST} -m not slow -m slow --durations=60',
    ]
    for step in ('ruff check', 'mypy', 'pytest', '-m slow'):
        assert run(clone, clone / '.ci' / 'run', FAIL_AT=step).returncode != 0
