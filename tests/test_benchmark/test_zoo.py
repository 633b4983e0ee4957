"""READMEs and metafiles of the recipes: their numbers are those that are measured now."""

import json
from pathlib import Path

import modelindex
import pytest
import yaml
from marks import rest_is_slow

from scopevit.benchmark import zoo
from scopevit.benchmark.complexity import Complexity
from scopevit.benchmark.metrics import Score
from scopevit.benchmark.zoo import (
    DATASETS,
    Recipe,
    describe_task,
    describe_zoo,
    metafile_text,
    read_scores,
    replace_table,
)
from scopevit.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('task', rest_is_slow(DATASETS))
def test_numbers_are_those_of_the_recipes(task):
    texts = describe_task(ROOT, task, found={})
    assert len(texts) == 2
    for path, text in texts.items():
        assert path.read_text() == text, f'{path} is outdated: run tools/benchmark/zoo.py'


def test_index_names_every_metafile_and_every_recipe():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert index['Import'] == [f'configs/{task}/metafile.yml' for task in DATASETS]
    models = modelindex.load(str(ROOT / 'model-index.yml'))
    models.build_models_with_collections()
    recipes = {path for task in DATASETS for path in (ROOT / 'configs' / task).rglob('*.py')}
    assert {ROOT / model.config for model in models.models} == recipes
    tiny = next(m for m in models.models if m.name == 'scopevit-tiny_8xb128_in1k')
    assert tiny.metadata.parameters == 8_006_716
    assert tiny.results is None
    assert tiny.in_collection == 'ScopeViT'
    data = {m.metadata.data['Training Data'] for m in models.models if m.name.endswith('_custom')}
    assert data == {'the images of whoever uses it'}


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    path = tmp_path / 'configs' / 'detection' / 'mask-rcnn_scopevit-tiny.py'
    scores = (Score('box AP', 42.12, None, 1), Score('mask AP', 38.5, None, 1))
    return Recipe(path, (3, 800, 1344), Complexity('', 27_000_400, 280_600_000_000), scores)


def test_row_of_a_trained_recipe(recipe):
    readme = recipe.path.with_name('README.md')
    text = 'a\n<!-- table of peers -->\nold\n<!-- end of table -->\nb\n'
    assert replace_table(readme, text, 'peers', [recipe]).splitlines()[4] == (
        '| [mask-rcnn_scopevit-tiny](mask-rcnn_scopevit-tiny.py) | 800×1344 |        27.000 '
        '|          280.600 | box AP 42.1<br>mask AP 38.5 |'
    )
    with pytest.raises(InputError, match='README.md has no <!-- table of recipes -->'):
        replace_table(readme, text, 'recipes', [recipe])


def test_texts_are_the_same_another_time(tmp_path, monkeypatch):
    # Seeds of one recipe, and a peer: without the files of the runs, the numbers stay.
    folder = tmp_path / 'configs' / 'pose'
    (folder / 'peers').mkdir(parents=True)
    (folder / 'a.py').touch()
    (folder / 'peers' / 'b.py').touch()
    table = '<!-- table of {} -->\n<!-- end of table -->\n'
    (folder / 'README.md').write_text(table.format('recipes') + table.format('peers'))
    for name, value in (('a', 0.80149), ('a', 0.80151), ('b', 0.5)):
        path = tmp_path / 'runs' / f'{name}{value}' / 'metrics.json'
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({'config': f'{name}.py', 'metrics': {'coco/AP': value}}))

    def measure(paths, scores, known):
        size = Complexity('', 1, 2)
        return [Recipe(p, (3, 8, 8), size, tuple(scores.get(p.stem, ()))) for p in paths]

    monkeypatch.setattr(zoo, 'measure_recipes', measure)
    monkeypatch.setattr(zoo, 'DATASETS', {'pose': 'COCO'})
    texts = describe_zoo(tmp_path, tmp_path / 'runs')
    for path, text in texts.items():
        path.write_text(text)
    assert 'AP 80.2 |' in texts[folder / 'README.md']  # 80.15
    assert 'AP 50.0 |' in texts[folder / 'README.md']
    assert describe_zoo(tmp_path) == texts


def test_metrics_outlive_the_work_dirs(recipe, tmp_path):
    metafile = tmp_path / 'metafile.yml'
    metafile.write_text(metafile_text(tmp_path, 'detection', [recipe]))
    content = yaml.safe_load(metafile.read_text())
    assert content['Models'][0]['Results'] == [
        {'Task': 'Object Detection', 'Dataset': 'COCO', 'Metrics': {'box AP': 42.12}},
        {'Task': 'Instance Segmentation', 'Dataset': 'COCO', 'Metrics': {'mask AP': 38.5}},
    ]
    assert content['Models'][0]['Metadata']['FLOPs'] == 280_600_000_000
    assert read_scores(metafile) == {
        'mask-rcnn_scopevit-tiny': [
            Score('box AP', 42.12, None, 1),
            Score('mask AP', 38.5, None, 1),
        ]
    }
