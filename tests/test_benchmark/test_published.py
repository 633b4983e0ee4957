"""The published table, and files that are none."""

from pathlib import Path

import pytest
import yaml

from scopevit.benchmark.published import read_published
from scopevit.errors import InputError

ROOT = Path(__file__).parents[2]
FILE = ROOT / 'tools' / 'benchmark' / 'published.yml'


def test_twelve_systems_of_the_paper():
    entries = read_published(FILE)
    top1 = [79.2, 79.8, 79.8, 79.8, 79.8, 80.0, 80.3, 80.4, 80.8, 80.9, 81.0, 81.1]
    assert [entry.top1 for entry in entries] == top1
    assert sum(entry.params for entry in entries) == pytest.approx(178.9)
    assert sum(entry.gflops for entry in entries) == pytest.approx(40.5)
    without = [entry.system for entry in entries if not entry.config]
    assert without == ['P2T-T', 'Shunted-T', 'EViT-S (keep rate 0.6)', 'MPViT-XS']


def test_its_configs_are_there():
    recipes = [entry.recipe for entry in read_published(FILE) if entry.config]
    assert len(recipes) == 8
    assert recipes[-1] == ROOT / 'configs' / 'classification' / 'scopevit-tiny_8xb128_in1k.py'
    peers = ROOT / 'configs' / 'classification' / 'peers'
    assert {recipe.parent for recipe in recipes[:-1]} == {peers}


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(top1='high'), "entry 1: top1 cannot be 'high'"),
        (dict(accuracy=1.0), 'entry 1 must have system, params'),
        (dict(config=3), 'config cannot be 3'),
        (dict(gflops=0), 'entry 1: gflops must be above 0, not 0'),
        (dict(params=float('inf')), 'entry 1: params must be above 0, not inf'),
        (dict(resolution=True), 'entry 1: resolution cannot be True'),
        (
            dict(config='swin-2g_8xb128'),
            'entry 1: no config swin-2g_8xb128; did you mean swin-2g_8xb128_in1k',
        ),
    ],
)
def test_entries_are_checked(tmp_path, change, message):
    entry = yaml.safe_load(FILE.read_text())[0]
    path = tmp_path / 'p.yml'
    path.write_text(yaml.safe_dump([{**entry, **change}]))
    with pytest.raises(InputError, match=message):
        read_published(path)


@pytest.mark.parametrize('text', ['', 'a: [', 'just text', '[]'])
def test_other_files_are_named(tmp_path, text):
    path = tmp_path / 'p.yml'
    path.write_text(text)
    with pytest.raises(InputError, match=r'p\.yml'):
        read_published(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match='cannot read .*none.yml'):
        read_published(tmp_path / 'none.yml')
