"""What the READMEs and metafiles of the recipes say in numbers, from the recipes themselves."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from scopevit.benchmark.complexity import Complexity, count_complexity
from scopevit.benchmark.metrics import NOT_TRAINED, Score, find_scores
from scopevit.benchmark.networks import build_network, input_shape, network_key
from scopevit.engine.config import load_config
from scopevit.errors import InputError
from scopevit.metafile import read_metafile
from scopevit.report import markdown_table, replace_between, size_text

HEADER = '# Written by tools/benchmark/zoo.py. `Results: null`: not trained yet.\n'
COLLECTIONS: list[dict] = [
    {
        'Name': 'ScopeViT',
        'Metadata': {
            'Architecture': ['Multi-Scale Self-Attention', 'Global-Scale Dilated Attention'],
        },
        'Paper': {
            'Title': 'ScopeViT: Scale-Aware Vision Transformer',
            'URL': 'https://doi.org/10.1016/j.patcog.2024.110470',
        },
        'README': 'README.md',
    },
    {'Name': 'Peers of ScopeViT', 'README': 'README.md'},
]
# OpenMMLab's words for what a score of ours measures: task, and name of the metric.
SCORE_WORDS = {
    'top-1': ('Image Classification', 'Top 1 Accuracy'),
    'box AP': ('Object Detection', 'box AP'),
    'mask AP': ('Instance Segmentation', 'mask AP'),
    'PQ': ('Panoptic Segmentation', 'PQ'),
    'mIoU': ('Semantic Segmentation', 'mIoU'),
    'AP': ('Body 2D Keypoint', 'AP'),
}
DATASETS = {
    'classification': 'ImageNet-1K',
    'detection': 'COCO',
    'segmentation': 'ADE20K',
    'pose': 'COCO',
}
CUSTOM = 'the images of whoever uses it'


@dataclass(frozen=True)
class Recipe:
    """A config and what was measured of its network."""

    path: Path
    shape: tuple[int, int, int]  # one input, (channels, height, width)
    complexity: Complexity  # at that input
    scores: tuple[Score, ...]  # none where it was not trained


def measure_recipes(
    paths: Iterable[Path], scores: dict[str, list[Score]], known: dict[str, Complexity]
) -> list[Recipe]:
    """Counts parameters and multiply-adds of recipes, of equal networks once.

    Sizes of one method follow each other, the smallest first. What was counted before is `known`,
    by the key of a network, and added to.
    """
    recipes = []
    for path in paths:
        cfg = load_config(path)
        key = network_key(cfg)
        if key not in known:
            known[key] = count_complexity(build_network(cfg))[0]
        shape = input_shape(cfg)
        recipes.append(Recipe(path, shape, known[key], tuple(scores.get(path.stem, ()))))
    return sorted(recipes, key=lambda recipe: (method(recipe), recipe.complexity.parameters))


def method(recipe: Recipe) -> str:
    """Returns a recipe's name without its size, by which recipes are put together."""
    return re.sub('scopevit-[a-z]+', 'scopevit', recipe.path.stem)


def describe_zoo(root: Path, work_dirs: Path | None = None) -> dict[Path, str]:
    """Makes the texts of a repository that hold measured numbers, by file.

    They are READMEs, metafiles and model-index.yml. Metrics that the metafiles hold stay where the
    `metrics.json` files below `work_dirs` have no newer ones.
    """
    found = find_scores(work_dirs) if work_dirs else {}
    # As they are read from a metafile another time, so that all texts agree.
    found = {stem: [as_stored(score) for score in scores] for stem, scores in found.items()}
    texts = {}
    for task in DATASETS:
        texts.update(describe_task(root, task, found))
    imports = {'Import': [str(p.relative_to(root)) for p in texts if p.suffix == '.yml']}
    texts[root / 'model-index.yml'] = yaml.safe_dump(imports)
    return texts


def describe_task(root: Path, task: str, found: dict[str, list[Score]]) -> dict[Path, str]:
    """Makes the README and the metafile of one task; see `describe_zoo`."""
    folder = root / 'configs' / task
    metafile, readme = folder / 'metafile.yml', folder / 'README.md'
    scores = {**read_scores(metafile), **found}
    known: dict[str, Complexity] = {}
    recipes = measure_recipes(folder.glob('*.py'), scores, known)
    peers = measure_recipes(folder.glob('peers/*.py'), scores, known)
    text = replace_table(readme, readme.read_text(encoding='utf-8'), 'recipes', recipes)
    text = replace_table(readme, text, 'peers', peers)
    return {readme: text, metafile: metafile_text(root, task, [*recipes, *peers])}


def replace_table(readme: Path, text: str, name: str, recipes: list[Recipe]) -> str:
    """Returns a README's text with the table of a name replaced.

    Raises:
        InputError: If there is no place for it.
    """
    begin, end = f'<!-- table of {name} -->\n', '<!-- end of table -->'
    rows = []
    for recipe in recipes:
        link = f'[{recipe.path.stem}]({recipe.path.relative_to(readme.parent)})'
        scores = '\n'.join(map(str, recipe.scores)) or NOT_TRAINED
        rows.append([link, size_text(recipe.shape[1:]), *recipe.complexity.figures, scores])
    columns = ['recipe', 'input', 'parameters, M', 'multiply-adds, G', 'result']
    table = markdown_table(columns, rows, align='lrrrl')
    return replace_between(text, begin, end, table, str(readme))


def metafile_text(root: Path, task: str, recipes: list[Recipe]) -> str:
    """Returns a metafile in OpenMMLab's format."""
    models = [
        {
            'Name': recipe.path.stem,
            'In Collection': COLLECTIONS[recipe.path.parent.name == 'peers']['Name'],
            'Config': str(recipe.path.relative_to(root)),
            'Metadata': {
                'FLOPs': recipe.complexity.multiply_adds,
                'Parameters': recipe.complexity.parameters,
                'Training Data': dataset_of(recipe, task),
            },
            'Results': [score_entry(score, dataset_of(recipe, task)) for score in recipe.scores]
            or None,
        }
        for recipe in recipes
    ]
    content = {'Collections': COLLECTIONS, 'Models': models}
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=100)


def dataset_of(recipe: Recipe, task: str) -> str:
    """Returns the name of the data that a recipe is trained on."""
    return CUSTOM if recipe.path.stem.endswith('_custom') else DATASETS[task]


def as_stored(score: Score) -> Score:
    """Returns a score as a metafile holds it: the mean of its runs, to two decimals."""
    return Score(score.name, round(score.mean, 2), None, 1)


def score_entry(score: Score, dataset: str) -> dict:
    """Returns an entry of a metafile's results."""
    task, metric = SCORE_WORDS[score.name]
    return {'Task': task, 'Dataset': dataset, 'Metrics': {metric: score.mean}}


def read_scores(metafile: Path) -> dict[str, list[Score]]:
    """Returns the metrics that a metafile holds, by the stem of the config.

    Raises:
        InputError: If it is damaged, or has a metric that no recipe is tested by.
    """
    if not metafile.is_file():
        return {}
    names = {words: name for name, words in SCORE_WORDS.items()}
    scores: dict[str, list[Score]] = {}
    for stem, model in read_metafile(metafile).items():
        for result in model['Results']:
            for metric, value in result['Metrics'].items():
                words = result['Task'], metric
                if words not in names:
                    raise InputError(f'{metafile}: {stem} has {metric} of {result["Task"]}')
                scores.setdefault(stem, []).append(Score(names[words], value, None, 1))
    return scores
