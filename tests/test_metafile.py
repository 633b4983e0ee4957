"""Metafiles: read as data, or refused in one line."""

from pathlib import Path

import pytest

from scopevit.benchmark.published import read_published
from scopevit.benchmark.zoo import read_scores
from scopevit.errors import InputError
from scopevit.metafile import read_metafile

ROOT = Path(__file__).parents[1]
MODEL = 'Models: [{Name: a, Results: [{Task: Object Detection, Metrics: {box AP: 42}}]}]'


def write(folder: Path, text: str) -> Path:
    path = folder / 'metafile.yml'
    path.write_text(text)
    return path


def test_what_is_read(tmp_path: Path) -> None:
    result = {'Task': 'Object Detection', 'Metrics': {'box AP': 42}}
    assert read_metafile(write(tmp_path, MODEL)) == {
        'a': {'Name': 'a', 'Metadata': {}, 'Results': [result]}
    }
    assert read_metafile(write(tmp_path, 'Models: [{Name: b, Results: null}]'))['b'] == {
        'Name': 'b', 'Metadata': {}, 'Results': []
    }  # fmt: skip
    for path in ROOT.glob('configs/*/metafile.yml'):
        assert all('FLOPs' in entry['Metadata'] for entry in read_metafile(path).values())


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('Models: [', 'cannot read {path} as YAML: ParserError: while parsing'),
        ('[' * 2000, 'cannot read {path} as YAML: RecursionError: '),
        ('x: ' + '9' * 5000, 'cannot read {path} as YAML: ValueError: '),
        ('!!python/object/apply:os.system [a]', 'cannot read {path} as YAML: ConstructorError: '),
        ('Models: {a: 1}', '{path} is no metafile: it has no list of Models'),
        ('- Models', '{path} is no metafile: it has no list of Models'),
        ('Models: [{}]', '{path}: model 1 must have a Name'),
        ('Models: [a]', '{path}: model 1 must have a Name'),
        ('Models: [{Name: a}, {Name: a}]', '{path}: model 2 has the Name of another: a'),
        ('Models: [{Name: a, Config: 1}]', '{path}: model 1: Config must be a path, not 1'),
        ('Models: [{Name: a, Metadata: [1]}]', '{path}: model 1: Metadata must have names'),
        ('Models: [{Name: a, Metadata: {FLOPs: 1.5}}]',
         '{path}: model 1: FLOPs must be a whole number, not 1.5'),
        ('Models: [{Name: a, Metadata: {Parameters: true}}]',
         '{path}: model 1: Parameters must be a whole number, not True'),
        ('Models: [{Name: a, Results: 3}]', '{path}: model 1: Results must be a list'),
        ('Models: [{Name: a, Results: [3]}]', '{path}: model 1: each of Results must have a Task'),
        (MODEL.replace('{box AP: 42}', '[1]'),
         '{path}: model 1: Metrics of Object Detection must have names'),
        (MODEL.replace('42', '101'), '{path}: model 1: box AP must be from 0 to 100, not 101'),
        (MODEL.replace('42', '.nan'), '{path}: model 1: box AP must be from 0 to 100, not nan'),
        (MODEL.replace('42', 'yes'), '{path}: model 1: box AP must be from 0 to 100, not True'),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_metafile(path)
    assert str(caught.value).startswith(said.format(path=path))


def test_a_metric_that_is_none_of_ours(tmp_path: Path) -> None:
    path = write(tmp_path, MODEL.replace('box AP', 'recall'))
    with pytest.raises(InputError, match=r'metafile.yml: a has recall of Object Detection$'):
        read_scores(path)


@pytest.mark.parametrize('text', ['[' * 2000, '- {params: ' + '9' * 5000 + '}'])
def test_published_results_that_no_reader_takes(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'metafile.yml is not YAML: '):
        read_published(write(tmp_path, text))
