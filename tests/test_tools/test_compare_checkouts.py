"""The comparison of two checkouts, on a checkout that is slower, needs more memory and differs."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = 'tools/benchmark/compare_checkouts.py'
CASE = ['--cases', 'inference-64x64-b1', '--arch', 'xtiny', '--rounds', '3']
OTHER = """
import time, torch
from scopevit.models import ScopeViT as Fast

class ScopeViT(Fast):
    def forward(self, x):
        time.sleep(0.5)
        wide = x.repeat(64, 1, 16, 16)
        return tuple(2 * out for out in super().forward(x))
"""


@pytest.fixture
def other(tmp_path):
    """A checkout whose package is this one's but for a slow backbone."""
    package = tmp_path / 'other' / 'scopevit'
    package.mkdir(parents=True)
    for path in (ROOT / 'scopevit').iterdir():
        if path.name != '__init__.py':
            (package / path.name).symlink_to(path)
    text = (ROOT / 'scopevit' / '__init__.py').read_text()
    (package / '__init__.py').write_text(text + OTHER)
    return package.parent


@pytest.mark.slow
def test_slower_larger_and_another_result(other, process):
    done = process(TOOL, other, *CASE)
    assert done.returncode == 0, done.stderr
    header, _, row = done.stdout.splitlines()
    cells = dict(zip(*([cell.strip() for cell in line.split('|')[1:-1]] for line in (header, row))))
    assert (cells['case'], cells['form']) == ('inference-64x64-b1', 'eager')
    assert float(cells['other (ms)']) > 500 > float(cells['this (ms)'])
    assert float(cells['times as fast'].split()[0]) > 1.5
    # 64 * 3 * 1024 * 1024 numbers of 4 bytes, and the network's own, below 2 MB
    assert float(cells['memory']) > 400
    assert cells['outputs differ'] == '8e-01'  # squares, of twice the values: 4 - 1 of 4


def test_a_package_that_prints(other, process):
    path = other / 'scopevit' / '__init__.py'
    quick = 'print("a pass"); return super().forward(x)'
    path.write_text(path.read_text().replace('time.sleep(0.5)', quick))
    done = process(TOOL, other, *CASE)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_a_process_that_ended(process):
    program = """if True:
        import subprocess, sys
        from compare_checkouts import Worker
        from scopevit.cli import run_tool
        worker = Worker.__new__(Worker)
        worker.checkout, pipe = 'it', subprocess.PIPE
        worker.process = subprocess.Popen(['true'], stdin=pipe, stdout=pipe, text=True)
        worker.process.wait()
        sys.exit(run_tool(lambda _: worker.seconds(1)))
    """
    paths = [ROOT, ROOT / 'tools' / 'benchmark', os.environ.get('PYTHONPATH', '')]
    done = process('-c', program, PYTHONPATH=os.pathsep.join(map(str, paths)))
    assert done.returncode == 1
    assert 'error: the process of it ended; its error is above' in done.stderr.splitlines()


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['nowhere', *CASE], 'no checkout of scopevit: nowhere'),
        ([ROOT, '--cases', 'inference'], "not 'inference'"),
        ([ROOT, *CASE, '--forms', 'checkpointed'], "'checkpointed' has no inference"),
        ([ROOT, *CASE, '--forms', 'eager+bf16'], "'eager+bf16' is not compared"),
        ([ROOT, *CASE, '--forms', 'eager', 'eager+bf16'], "'eager+bf16' is not compared"),
        ([ROOT, *CASE, '--arch', 'huge'], 'the process of'),
    ],
)
def test_wrong_arguments(arguments, words, process):
    done = process(TOOL, *arguments)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert words in line
    assert done.stdout == ''
    assert ' s: inference' not in done.stderr  # nothing was measured before


def test_pythonpath_is_kept_behind_the_checkout(other, process, tmp_path):
    packages, seen = tmp_path / 'packages', tmp_path / 'seen'
    packages.mkdir()
    (packages / 'sitecustomize.py').write_text(
        'import sys\n'
        f'if sys.orig_argv[1] == "-c": open({str(seen)!r}, "w").write("\\n".join(sys.path))\n'
    )
    paths = [str(ROOT), str(packages), *filter(None, [os.environ.get('PYTHONPATH')])]
    # of a size that there is not, so that the process of the checkout soon ends
    process(TOOL, other, *CASE, '--arch', 'huge', PYTHONPATH=os.pathsep.join(paths))
    found = [path for path in seen.read_text().splitlines() if path]
    assert found[:3] == [str(other), str(ROOT), str(packages)]
