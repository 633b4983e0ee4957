"""tools/gpu/wheels.sh on a pip that only pretends, tools/gpu/run.sh on a wheel made by hand."""

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GPU = ROOT / 'tools' / 'gpu'

# A Python whose pip takes version 1 of what has no pin, knows what two packages need, and
# downloads wheels of 1 MB.
FAKE_PYTHON = f"""#!{sys.executable}
import json, os, re, sys
from pathlib import Path

NEEDS = {{'matplotlib': ['contourpy'], 'torch': ['filelock'], 'timm': ['torch', 'filelock']}}
VALUES = ('--target', '--report', '--platform', '--python-version', '--implementation', '--dest')

if sys.argv[1:3] != ['-m', 'pip']:
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
words = iter(word for word in sys.argv[3:] if word not in ('-qq', '--disable-pip-version-check'))
command, options, lines = next(words), {{}}, []
for word in words:
    if word in VALUES:
        options[word] = next(words)
    elif word == '-r':
        lines += Path(next(words)).read_text().splitlines()
    elif word.startswith('-'):
        options[word] = True
    else:
        lines.append(word)
pins = {{}}
for line in lines:
    name, version = re.match(r'([\\w-]*)(?:==([\\w.]+))?', line).groups()
    if name and pins.get(name, '1') == '1':
        pins[name] = version or '1'
if command == 'install':
    assert options['--dry-run'] and options['--ignore-installed']
    for name in [] if '--no-deps' in options else list(pins):
        for needed in NEEDS.get(name, []):
            pins.setdefault(needed, '1')
    install = [{{'metadata': {{'name': n, 'version': v}}}} for n, v in pins.items()]
    Path(options['--report']).write_text(json.dumps({{'install': install}}))
elif command == 'download':
    folder = Path(options['--dest'])
    folder.mkdir()
    tag = 'cp' + options['--python-version'].replace('.', '')
    for name, version in pins.items():
        wheel = folder / f'{{name.replace("-", "_")}}-{{version}}-{{tag}}-none-any.whl'
        wheel.write_bytes(bytes(1_000_000))
"""

# Says which wheel it found, what it was given, and which Python the launchers would take.
CHECK = """
import os, sys
import tiny
print(tiny.__file__, os.environ['PYTHON'], *sys.argv[1:], sep='\\n')
sys.exit(7)
"""
# Its child, too, keeps stdout open.
ENDLESS_CHECK = """
import subprocess, sys
sleep = 'import time; print("ready", flush=True); time.sleep(600)'
subprocess.run([sys.executable, '-c', sleep])
"""


def run(
    script: Path, *arguments: object, python: object, **variables: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [script, *map(str, arguments)],
        env={**os.environ, 'PYTHON': str(python), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_fails(result: subprocess.CompletedProcess, message: str) -> None:
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith('error: ')
    assert message in line


@pytest.fixture
def fake_python(tmp_path: Path) -> Path:
    path = tmp_path / 'fake_python'
    path.write_text(FAKE_PYTHON)
    path.chmod(0o755)
    return path


@pytest.fixture
def collect(fake_python: Path, tmp_path: Path) -> Callable[..., tuple[set[str], list[str]]]:
    """A function that runs wheels.sh: the names of what it fetched, and the lines it printed."""

    def collect(*options: str) -> tuple[set[str], list[str]]:
        folder = tmp_path / 'wheels'
        result = run(GPU / 'wheels.sh', folder, *options, python=fake_python)
        assert result.returncode == 0, result.stderr
        return {path.name for path in folder.iterdir()}, result.stdout.splitlines()

    return collect


def required() -> set[str]:
    """The names in requirements/ that the toolbox and its tests need."""
    names = set()
    for role in ('runtime', 'nodeps', 'tasks', 'tests'):
        lines = (ROOT / 'requirements' / f'{role}.txt').read_text().splitlines()
        names |= {re.split(r'[ <>=#]', line)[0] for line in lines} - {''}
    return names


def packages(wheels: set[str]) -> set[str]:
    return {name.partition('-')[0].replace('_', '-') for name in wheels}


def test_all_requirements_are_collected(collect):
    wheels, lines = collect()
    left_out = {'torch', 'torchvision', 'numpy', 'opencv-python-headless', 'scipy'}
    assert left_out < required()
    # contourpy is what matplotlib needs; torch brings filelock
    assert packages(wheels) == required() - left_out | {'contourpy'}
    assert {'mmengine-0.10.7-cp312-none-any.whl', 'mmdet-3.3.0-cp312-none-any.whl'} <= wheels
    assert f'{len(wheels)} wheels, {len(wheels)} MB, for CPython 3.12' in lines[0]
    assert set(lines[1].partition(': ')[2].split()) == left_out


def test_all_takes_the_large_ones(collect):
    wheels, lines = collect('--all', '--python-version', '3.13')
    assert packages(wheels) == required() - {'torch', 'torchvision', 'numpy'} | {'contourpy'}
    assert 'scipy-1-cp313-none-any.whl' in wheels
    assert lines[1].endswith(': torch torchvision numpy')


def test_what_the_machine_has_is_left_out_with_what_it_needs(collect):
    wheels, _ = collect('--have', 'matplotlib', '--have', 'mmdet', '--have', 'tqdm==4.1')
    assert not packages(wheels) & {'matplotlib', 'contourpy', 'mmdet', 'tqdm'}
    assert {'mmpose', 'pillow', 'timm'} <= packages(wheels)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'DIR is needed; usage: '),
        (['--all'], 'DIR is needed; usage: '),
        (['new', '--everything'], 'unknown option --everything; usage: '),
        (['new', '--have'], '--have needs a value; usage: '),
        (['new', '--have', '--all'], '--have needs a value; usage: '),
        (['new', 'newer'], 'one DIR is needed, not new and newer; usage: '),
        (['new', '--python-version', '3'], "--python-version must be like 3.12, not '3'"),
        ([GPU], f'{GPU} is there and not empty'),
        (['/proc/new'], 'cannot make the folder /proc/new'),
    ],
)
def test_wrong_arguments_of_wheels(arguments, message, fake_python):
    assert_fails(run(GPU / 'wheels.sh', *arguments, python=fake_python), message)


def test_failed_download_leaves_nothing(tmp_path):
    no_pip = tmp_path / 'python'
    no_pip.write_text('#!/bin/sh\ncase "$*" in *version) ;; *) exit 2 ;; esac\n')
    no_pip.chmod(0o755)
    (tmp_path / 'tmp').mkdir()
    folder, temporary = tmp_path / 'wheels', str(tmp_path / 'tmp')
    result = run(GPU / 'wheels.sh', folder, python=no_pip, TMPDIR=temporary)
    assert_fails(result, 'pip finds no wheels for CPython 3.12 that fit')
    assert not folder.exists()
    assert not list((tmp_path / 'tmp').iterdir())


def test_a_disk_that_is_full_leaves_nothing(fake_python, tmp_path):
    tools, folder = tmp_path / 'bin', tmp_path / 'wheels'
    tools.mkdir()
    # Half of the file is there when the disk is full, which it is from `t` on.
    (tools / 'mv').write_text(
        '#!/bin/sh\ncase "$1" in */[t-z]*) : >"$2/${1##*/}"; exit 1 ;; esac\nexec /bin/mv "$@"\n'
    )
    (tools / 'mv').chmod(0o755)
    path = f'{tools}{os.pathsep}{os.environ["PATH"]}'
    result = run(GPU / 'wheels.sh', folder, python=fake_python, PATH=path)
    assert_fails(result, f'cannot write all wheels to {folder}')
    assert not folder.exists()
    # An empty folder of the user's stays.
    folder.mkdir()
    run(GPU / 'wheels.sh', folder, python=fake_python, PATH=path)
    assert not list(folder.iterdir())


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone that needs the package `tiny` alone, whose check shows what it was run with."""
    folder = tmp_path / 'a clone'
    (folder / 'tools' / 'gpu').mkdir(parents=True)
    (folder / 'requirements').mkdir()
    for name in ('tools/gpu/run.sh', 'tools/install.sh'):
        shutil.copy(ROOT / name, folder / name)
    for role, text in (
        ('runtime', 'tiny>=1\n'),
        ('nodeps', ''),
        ('tasks', '# none\n'),
        ('tests', ''),
    ):
        (folder / 'requirements' / f'{role}.txt').write_text(text)
    (folder / 'tools' / 'gpu' / 'check.py').write_text(CHECK)
    return folder


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with a wheel of `tiny`."""
    folder = tmp_path / 'some wheels'
    folder.mkdir()
    info = 'tiny-1.0.dist-info'
    with zipfile.ZipFile(folder / 'tiny-1.0-py3-none-any.whl', 'w') as wheel:
        wheel.writestr('tiny.py', '')
        wheel.writestr(f'{info}/METADATA', 'Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n')
        wheel.writestr(
            f'{info}/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
        )
        wheel.writestr(f'{info}/RECORD', '')
    return folder


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """An empty folder for temporary files."""
    folder = tmp_path / 'tmp'
    folder.mkdir()
    return folder


def test_check_runs_with_the_wheels(clone, wheels, temporary):
    result = run(
        clone / 'tools/gpu/run.sh', wheels, '--device', 'cuda:0', '--out', 'a b',
        python=sys.executable, TMPDIR=str(temporary),
        # settings that contradict a folder of its own
        PIP_USER='1', PIP_REQUIRE_VIRTUALENV='1', PIP_NO_BINARY=':all:',
    )  # fmt: skip
    assert result.returncode == 7, result.stderr
    module, python, *arguments = result.stdout.splitlines()
    assert Path(module).is_relative_to(temporary)
    assert python == sys.executable
    assert arguments == ['--device', 'cuda:0', '--out', 'a b']
    assert not list(temporary.iterdir())


def test_signal_ends_the_check_and_its_children(clone, wheels, temporary):
    (clone / 'tools/gpu/check.py').write_text(ENDLESS_CHECK)
    process = subprocess.Popen(
        [clone / 'tools/gpu/run.sh', wheels],
        env={**os.environ, 'PYTHON': sys.executable, 'TMPDIR': str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)  # until nobody has stdout open
    assert (process.returncode, err) == (128 + signal.SIGTERM, '')
    assert not list(temporary.iterdir())


def test_a_relative_folder_for_temporary_files_reaches_the_steps(clone, wheels, temporary):
    step = f'[sys.executable, "-c", {CHECK!r}], cwd="/"'
    (clone / 'tools/gpu/check.py').write_text(
        f'import subprocess, sys\nsys.exit(subprocess.run({step}).returncode)'
    )
    result = subprocess.run(
        [clone / 'tools/gpu/run.sh', wheels],
        env={**os.environ, 'PYTHON': sys.executable, 'TMPDIR': temporary.name},
        cwd=temporary.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 7, result.stderr
    assert Path(result.stdout.splitlines()[0]).is_relative_to(temporary)


def test_a_folder_of_any_name(clone, wheels):
    folder = wheels.rename(wheels.with_name('wheels [2]*'))
    result = run(clone / 'tools/gpu/run.sh', folder, python=sys.executable)
    assert result.returncode == 7, result.stderr


def test_a_wheel_that_is_broken(clone, wheels, temporary):
    (wheels / 'broken-1.0-py3-none-any.whl').write_text('no archive')
    result = run(clone / 'tools/gpu/run.sh', wheels, python=sys.executable, TMPDIR=str(temporary))
    said, line = result.stderr.splitlines()
    assert 'broken-1.0-py3-none-any.whl' in said  # by pip
    assert result.returncode == 1
    assert line.startswith(f'error: pip cannot install the wheels in {wheels}, ')
    assert not list(temporary.iterdir())


def test_missing_packages_are_named(clone, wheels, temporary):
    (clone / 'requirements/tasks.txt').write_text('left-out==1.0\nmissing_too\n')
    result = run(clone / 'tools/gpu/run.sh', wheels, python=sys.executable, TMPDIR=str(temporary))
    assert_fails(result, f'neither {wheels} nor {sys.executable} has left-out, missing_too: ')
    assert not list(temporary.iterdir())


def test_wrong_arguments_of_run(clone, wheels):
    script = clone / 'tools/gpu/run.sh'
    assert_fails(run(script, python=sys.executable), 'WHEELS is needed; usage: ')
    assert_fails(run(script, '--out', wheels, python=sys.executable), 'WHEELS is needed; usage: ')
    assert_fails(run(script, clone, python=sys.executable), f'{clone} has no wheels: ')
    assert_fails(run(script, wheels, python='/no/python'), '/no/python has no pip: ')


@pytest.mark.parametrize('name', ['wheels.sh', 'run.sh'])
def test_help(name):
    result = run(GPU / name, '--help', python=sys.executable)
    assert result.returncode == 0
    assert f'  tools/gpu/{name} ' in result.stdout
