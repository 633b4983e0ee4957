"""The workflow calls what a contributor calls, on the Pythons that the package is for."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# YAML 1.1 reads the key `on` as true; no test needs it.
JOBS = yaml.safe_load((ROOT / '.github' / 'workflows' / 'tests.yml').read_text())['jobs']


def pythons(job):
    return job.get('strategy', {}).get('matrix', {}).get('python', [])


def test_jobs_are_targets_of_make():
    targets = re.search(r'^\.PHONY: (.+)$', (ROOT / 'Makefile').read_text(), re.MULTILINE)[1]
    commands = {job: [s['run'] for s in JOBS[job]['steps'] if 'run' in s] for job in JOBS}
    assert commands == {
        'lint': ['make setup', 'make lint', 'make types'],
        'test': ['make setup', 'make test'],
        'test-all': ['make setup', 'make test-all'],
    }
    called = {command.split()[1] for job in commands.values() for command in job}
    assert called <= set(targets.split())


def test_every_python_from_the_oldest_on():
    oldest = re.search(r"python_requires='>=3\.(\d+)'", (ROOT / 'setup.py').read_text())[1]
    tested = pythons(JOBS['test'])
    assert tested == [f'3.{minor}' for minor in range(int(oldest), int(oldest) + len(tested))]
    assert pythons(JOBS['test-all']) == [tested[0], tested[-1]]
    # The set-up looks for the same ones.
    names = re.search(r'for name in python3 (.+); do', (ROOT / 'tools/install.sh').read_text())[1]
    assert names.split() == [f'python{version}' for version in reversed(tested)]


@pytest.mark.parametrize('job', JOBS)
def test_every_python_is_a_string(job):
    """A number would make 3.1 of 3.10."""
    steps = [
        s['with']['python-version']
        for s in JOBS[job]['steps']
        if 'python-version' in s.get('with', {})
    ]
    assert len(steps) == 1
    assert all(isinstance(version, str) for version in [*steps, *pythons(JOBS[job])])


@pytest.mark.parametrize('name', ['bug', 'idea'])
def test_templates_have_what_a_form_needs(name):
    form = yaml.safe_load((ROOT / '.github' / 'ISSUE_TEMPLATE' / f'{name}.yml').read_text())
    assert {'name', 'description', 'body'} <= set(form)
    fields = [part for part in form['body'] if part['type'] != 'markdown']
    assert len({part['id'] for part in fields}) == len(fields)
    assert all(part['attributes']['label'] for part in fields)
