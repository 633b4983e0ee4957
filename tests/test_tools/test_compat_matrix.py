"""The matrix of environments, on Pythons that only pretend to install and to test."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = '# Page\n\n{begin}\nold\n{end}\nrest\n'
COREUTILS = ('cat', 'cp', 'dirname', 'env', 'mkdir', 'rm', 'tail', 'touch')
# As pip says it where no wheel fits.
NO_TORCH = """ERROR: Could not find a version that satisfies the requirement torch==2.6.*
ERROR: No matching distribution found for torch==2.6.*
"""
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    *sys.version.startswith*) case "$*" in *"'3.12.'"*) exit 0 ;; esac; exit 1 ;;
    '-m venv '*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    '-m pip list '*) echo '[{"name": "torch", "version": "2.8.0"},' \\
        '{"name": "numpy", "version": "2.3.1"}, {"name": "onedl-mmcv", "version": "2.3.6"}]' ;;
    *torch==2.6*) printf '%s' "$NO_TORCH" >&2; exit 1 ;;
    *pip*onedl-mmcv*) [ "$MMCV_WITH_OPS" = 0 ] && touch "$0.forks" ;;
    '-m scopevit.compat --json') echo '{"broken": ["mmcv.ops does not work"]}'; exit 1 ;;
    *'-m pytest '*)
        [ -e "$0.forks" ] || exit 3
        case "$*" in *'junitxml '*' tests/one.py -x') ;; *) exit 4 ;; esac
        while [ "$1" != --junitxml ]; do shift; done
        echo '<testsuites><testsuite errors="1" failures="2" skipped="4" tests="40"/>' \\
            '</testsuites>' >"$2"
        exit 1
        ;;
    *) echo "ran $*" ;;
esac
"""


@pytest.fixture
def matrix(tmp_path):
    """A function that runs the script where `python3.12` is a fake and no other Python is there."""
    programs = tmp_path / 'bin'
    programs.mkdir()
    for name in (*COREUTILS, 'bash', 'grep', 'sed', 'sh'):
        (programs / name).symlink_to(shutil.which(name))
    (programs / 'python3.12').write_text(FAKE_PYTHON)
    (programs / 'python3.12').chmod(0o755)
    page = tmp_path / 'page.md'
    begin, end = (f'<!-- {mark}: tools/compat/matrix.sh -->' for mark in ('begin', 'end'))
    page.write_text(PAGE.format(begin=begin, end=end))

    def run(*arguments, **variables):
        result = subprocess.run(
            [ROOT / 'tools' / 'compat' / 'matrix.sh', *arguments],
            env={
                'HOME': str(tmp_path),
                'NO_TORCH': NO_TORCH,
                'PAGE': str(page),
                'PATH': str(programs),
                'PYTHON': sys.executable,
                'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
                'WORK': str(tmp_path / 'work'),
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout, page.read_text()

    return run


def rows(page):
    """The rows of the table, by Python, torch and libraries."""
    cells = [
        [cell.strip() for cell in line.strip('| ').split('|')] for line in page.splitlines()
        if line.startswith('| 3.')
    ]  # fmt: skip
    return {tuple(row[:3]): row[3:] for row in cells}


def test_cells(matrix, tmp_path):
    chosen = dict(PYTHONS='3.12 3.14', TORCHES='2.6 2.8', LIBRARIES='forks')
    out, page = matrix('tests/one.py', '-x', **chosen)
    assert out.count(', forks: ') == 4 and out.count('there is no Python 3.14') == 2
    assert page.startswith('# Page\n') and page.endswith('\nrest\n') and 'old' not in page
    table = rows(page)
    assert len(table) == 5 * 3 * 2
    installed, tests, minutes = table['3.12', '2.8', 'forks']
    assert installed == 'torch 2.8.0, numpy 2.3.1, onedl-mmcv 2.3.6'
    assert tests == '33 passed, 3 failed, 4 skipped; broken: mmcv.ops does not work'
    assert minutes.endswith(' min')
    assert table['3.12', '2.6', 'forks'][1] == (
        'cannot be had: Could not find a version that satisfies the requirement torch==2.6.*'
    )
    assert table['3.14', '2.8', 'forks'][1] == 'cannot be had: there is no Python 3.14'
    assert table['3.11', '2.8', 'forks'][1] == table['3.12', '2.8', 'upstream'][1] == 'not run'
    assert not list(tmp_path.glob('work/*/environment'))
    found = json.loads((tmp_path / 'work' / 'matrix.json').read_text())
    assert found['3.12_2.8_forks']['tests'] == {'passed': 33, 'failed': 3, 'skipped': 4}
    # What has been tried is not tried again.
    out, _ = matrix('tests/one.py', '-x', **chosen)
    assert out == ''


def test_help(matrix):
    out, page = matrix('--help')
    assert 'PYTHONS=' in out and 'old' in page


def test_nothing_tested(fails, tmp_path):
    line = fails('compat/matrix', tmp_path)
    assert line == f'error: {tmp_path}: no environment has been tested there'
