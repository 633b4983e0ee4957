"""What `python -m scopevit.compat` says of environments that are whole, empty, and broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scopevit import compat
from scopevit.compat import check
from scopevit.engine.libraries import LIBRARIES
from scopevit_command import main

ROOT = Path(__file__).parents[2]
CHECK = ('-m', 'scopevit.compat')
# Packages that do as much of the real ones as is looked at.
WHOLE = {
    'packaging/specifiers.py': (
        'class SpecifierSet:\n'
        '    def __init__(self, text, prereleases): pass\n'
        '    def __contains__(self, version): return version.startswith("0.10")\n'
    ),
    'numpy/__init__.py': (
        'def zeros(size): return array()\nclass array:\n    def numpy(self): pass\n'
    ),
    'torch/__init__.py': (
        'def from_numpy(array): return array\n'
        'def tensor(data): pass\n'
        'def ones(size): pass\n'
        'class ops:\n'
        '    class torchvision:\n'
        '        def nms(boxes, scores, threshold): pass\n'
    ),
    'torchvision/__init__.py': '',
    'cv2/__init__.py': '',
    'mmengine/__init__.py': "__version__ = '0.10.7'\n",
    'mmengine/runner.py': '',
    'mmengine/hub.py': '',
    'mmcv/__init__.py': "__version__ = '0.10'\n",
    'mmcv/ops/__init__.py': "if 0: ext.load_ext('_ext', ['nms', 'carafe', 'softnms', 'get_it'])\n",
    'mmcv/_ext.py': 'def nms(): torchvision_operators()\ndef softnms(): len\n',
    'mmdet/__init__.py': '',
    **{f'mmdet/{part.partition(".")[2]}.py': '' for part in check.TASKS['mmdet']},
}


@pytest.fixture
def run(tmp_path):
    """A function that runs the check where nothing but some made-up packages is installed."""

    def run(packages, *arguments):
        for name, text in packages.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if path.parent != tmp_path:
                path.with_name('__init__.py').touch()
        return subprocess.run(
            [sys.executable, '-S', *(arguments or CHECK)],
            cwd=ROOT,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), str(tmp_path)])},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def errors(result):
    """The lines that a check of a broken environment ends with."""
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr and 'nothing is broken' not in result.stdout
    first, *lines = result.stderr.splitlines()
    assert first == 'importing the libraries'
    assert all(line.startswith('error: ') for line in lines)
    return [line.removeprefix('error: ') for line in lines]


def test_here_nothing_is_broken(capsys):
    assert main(['info', '--check', '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['broken'] == [] and found['not installed'] == []
    shims = {shim['name']: shim for shim in found['shims']}
    assert list(shims) == list(compat.NAMES)
    assert {name for name in shims if shims[name]['state'] == 'acts'} == set(compat.acted)
    assert not any(shim['written for'] for shim in shims.values())
    assert 'nms' in {*found['operators']['torchvision']} or found['operators']['compiled']
    assert main(['info', '--check']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == 'nothing is broken'
    assert any(line.startswith('  torch_load          acts: Let `torch.load` ') for line in lines)


def test_knows_the_libraries():
    assert list(check.TASKS) == list(LIBRARIES)


@pytest.mark.parametrize('command', [CHECK, ('scopevit_command.py', 'info', '--check')])
def test_where_nothing_is_installed(run, command):
    advice = 'is not installed: tools/install.sh --only-compat PYTHON installs all'
    result = run({}, *command)
    assert errors(result) == [f'{name} {advice}' for name in check.NEEDED]
    assert 'not installed, and not needed: mmpretrain, mmdet, mmseg, mmpose\n' in result.stdout
    assert result.stdout.count(' its library is not imported\n') == len(compat.NAMES)
    assert '  cannot be loaded\n' in result.stdout


def test_where_all_is_well(run):
    result = run(WHOLE)
    assert (result.returncode, result.stderr) == (0, 'importing the libraries\n')
    assert result.stdout.endswith('nothing is broken\n')
    rows = ('torchvision         nms', 'torch               softnms', 'missing             carafe')
    assert '\n  '.join(["mmcv's operators", *rows, '']).rstrip(' ') in result.stdout


CLASH = 'MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0.'


@pytest.mark.parametrize(
    ('changes', 'line'),
    [
        (
            {'mmdet/__init__.py': f'assert False, {CLASH!r}\n'},
            f'mmdet.models does not work: AssertionError: {CLASH}',
        ),
        (
            {'mmdet/models.py': 'import timm.layers\n'},
            'timm is not installed, and mmdet.models does not work without it: pip install timm',
        ),
        (
            {
                'mmdet/models.py': "raise TypeError('NoneType takes no arguments')\n",
                'mmpose/models.py': 'import mmdet.models\n',
            },
            'mmdet.models does not work: TypeError: NoneType takes no arguments (nor does '
            'mmpose.models)',
        ),
        (
            {
                'mmcv/_ext.py': "raise ImportError('_ext.so: undefined symbol: _ZN2at')\n",
                'mmdet/models.py': 'import mmcv._ext\n',
            },
            'mmcv._ext does not work: ImportError: _ext.so: undefined symbol: _ZN2at; mmcv was '
            'compiled for another torch: compile it for this one, or install mmcv-lite in its '
            'place (nor does mmdet.models)',
        ),
        (
            {
                'torch/__init__.py': WHOLE['torch/__init__.py']
                + "def from_numpy(array): raise RuntimeError('Numpy is not available')\n"
            },
            'torch with numpy does not work: RuntimeError: Numpy is not available',
        ),
        (
            {
                'torchvision/__init__.py': "raise RuntimeError('operator torchvision::nms does "
                "not exist')\n",
                'mmdet/datasets.py': 'import torchvision\n',
            },
            'torchvision does not work: RuntimeError: operator torchvision::nms does not exist; it '
            'must be the one made for this torch (nor does mmdet.datasets)',
        ),
        (
            {'torch/__init__.py': WHOLE['torch/__init__.py'].replace('nms', 'roi_align')},
            "NMS of torchvision does not work: AttributeError: type object 'torchvision' has no "
            "attribute 'nms'; it must be the one made for this torch",
        ),
    ],
    ids=['clash', 'missing', 'through', 'extension', 'numpy', 'torchvision', 'operator'],
)
def test_what_is_broken_is_one_line(run, changes, line):
    assert errors(run({**WHOLE, **changes})) == [line]


def test_versions_that_a_shim_was_not_written_for(run):
    result = run({**WHOLE, 'mmengine/__init__.py': "__version__ = '0.11.0'\n"}, *CHECK, '--json')
    shims = {shim['name']: shim for shim in json.loads(result.stdout)['shims']}
    assert shims['yaml_loader']['written for'] == 'mmengine >=0.10,<0.11, not 0.11.0'
    assert shims['yaml_loader']['state'] == 'not needed'
    assert shims['mmpose_visualizer']['state'] == 'idle'
    assert shims['compiled_training']['state'] == 'waits'
