"""A minute of `make fuzz`, and whether it notices what it looks for."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import fuzz
import pytest
from fuzzing.kind import Kind
from strangers import Exploit

from scopevit.errors import InputError


class Rehearsal(Kind):
    """Does what a damaged input may."""

    def take(self, chance: random.Random) -> None:
        ways = {
            'refuse': lambda: refuse('damaged.json: an id is there twice'),
            'mumble': lambda: refuse('something is wrong'),
            'babble': lambda: refuse(f'damaged.json: {"x" * 3000}'),
            'raise': lambda: {}['id'],
            'crash': lambda: os.kill(os.getpid(), signal.SIGKILL),
            'leave': lambda: os._exit(0),
            'hang': lambda: time.sleep(60),
            'fill': lambda: bytearray(64 * 2**30),
            'write': self.canary.touch,
            'execute': lambda: Exploit(self.canary).__reduce__()[0]('true'),
            'spawn': lambda: subprocess.run(['true']),
            'accept': list,
        }
        ways[chance.choice(list(ways))]()


def refuse(message: str) -> None:
    raise InputError(message)


@pytest.fixture
def outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What came of rehearsals in two processes, where that is a failure."""
    monkeypatch.setitem(fuzz.KINDS, 'rehearsal', Rehearsal)
    monkeypatch.setattr(fuzz, 'SECONDS', 0.5)
    workers = [fuzz.Worker(0, tmp_path) for _ in range(2)]
    try:
        counts = fuzz.fuzz(['rehearsal'], 50, 0, None, workers)['rehearsal']
    finally:
        for worker in workers:
            worker.stop()
    assert (counts.inputs, len(counts.failures)) == (50, 50 - counts.refused - counts.accepted)
    assert counts.refused > 0 and counts.accepted > 0
    return counts.failures


def test_each_kind_of_failure_is_noticed(outcomes: list[str]) -> None:
    for failure in (
        'no file or key in the message: something is wrong',
        "KeyError: 'id'",
        'the process ended with code -9',
        'the process ended with code 0',
        'no end within 0.5 s',
        'MemoryError',
        'code in the input was executed',
        'the input made it call os.system',
        'the input made it call subprocess.Popen',
    ):
        found = [line for line in outcomes if failure in line]
        assert found, failure
        assert found[0].startswith('--seed 0 --kinds rehearsal --only ')


def test_inputs_of_a_seed_are_the_same(tmp_path: Path) -> None:
    contents = []
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        kind = fuzz.KINDS['boxes'](tmp_path / name, tmp_path / 'canary')
        fuzz.take(kind, 'boxes', 3, 7, [])
        contents.append((tmp_path / name / 'damaged.json').read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.slow
def test_a_minute_of_inputs(process) -> None:
    done = process('tests/fuzz.py', '--minutes', 1, '--seed', 1)
    assert done.returncode == 0, done.stdout
    total = next(line for line in done.stdout.splitlines() if line.startswith('| all'))
    inputs, refused, accepted, failures = (int(c.replace(',', '')) for c in total.split('|')[2:6])
    assert failures == 0 and inputs == refused + accepted > 200
    assert refused > 0 and accepted > 0
