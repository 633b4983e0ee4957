"""Metrics of several runs, from the files that tools/test.py writes."""

import json

import pytest

from scopevit.benchmark.metrics import Score, find_scores
from scopevit.errors import InputError


def write(folder, config, **metrics):
    folder.mkdir(parents=True)
    (folder / 'metrics.json').write_text(json.dumps({'config': config, 'metrics': metrics}))


def test_runs_of_a_recipe_become_mean_and_deviation(tmp_path):
    for seed, top1 in enumerate((80.0, 81.0, 82.0)):
        write(tmp_path / f's{seed}', '/else/where/a.py', **{'accuracy/top1': top1, 'other': 5})
    write(tmp_path / 'deep' / 'er', 'b.py', **{'coco/bbox_mAP': 0.401, 'coco/segm_mAP': 0.37})
    scores = find_scores(tmp_path)
    assert scores['a'] == [Score('top-1', 81.0, 1.0, 3)]
    assert [str(score) for score in scores['b']] == ['box AP 40.1', 'mask AP 37.0']
    assert str(scores['a'][0]) == 'top-1 81.0 ± 1.0 (3 runs)'


def test_null_counts_as_no_run(tmp_path):
    write(tmp_path / 's0', 'a.py', mIoU=None)
    write(tmp_path / 's1', 'a.py', mIoU=41.25)
    write(tmp_path / 's2', 'b.py', mIoU=None)
    assert find_scores(tmp_path) == {'a': [Score('mIoU', 41.25, None, 1)], 'b': []}


def test_keypoint_ap_is_per_cent(tmp_path):
    write(tmp_path / 'x', 'p.py', **{'coco/AP': 0.7})
    assert find_scores(tmp_path)['p'] == [Score('AP', pytest.approx(70.0), None, 1)]


@pytest.mark.parametrize(
    'text', ['{', '[]', '{"config": "a.py"}', '{"config": 3, "metrics": {}}',
             '{"config": "a.py", "metrics": {"mIoU": "high"}}']
)  # fmt: skip
def test_other_files_are_named(tmp_path, text):
    (tmp_path / 'metrics.json').write_text(text)
    with pytest.raises(InputError, match=r'metrics\.json'):
        find_scores(tmp_path)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match='no folder of work dirs: .*nowhere'):
        find_scores(tmp_path / 'nowhere')
