"""The time of a recipe's pipeline: its parts, its workers, the cores it needs, and bad input."""

import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from scopevit.benchmark import data_speed
from scopevit.benchmark.data_speed import (
    LIBRARYS,
    MARKS,
    OURS,
    Pipeline,
    cores_needed,
    loader_rate,
    make_report,
    run_data_speed,
)
from scopevit.errors import InputError

ROOT = Path(__file__).parents[2]
RECIPE = str(ROOT / 'configs/classification/scopevit-tiny_8xb128_in1k.py')
DETECTOR = str(ROOT / 'configs/detection/retinanet_scopevit-tiny_fpn_1x_coco.py')
POSE = str(ROOT / 'configs/pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192.py')
BEGIN, END = MARKS['classification']
SMALL = {'model.backbone.arch': 'xtiny', 'model.head.in_channels': 256}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / 'photographs'
    folder.mkdir()
    shutil.copy(matplotlib.cbook.get_sample_data('grace_hopper.jpg', asfileobj=False), folder)
    return folder


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in dict(
        ROUNDS=2, WORKER_ROUNDS=1, SAMPLES=2, WORKERS=(1,), BATCHES=1, WORKER_BATCH=2, CPU_BATCH=2
    ).items():
        monkeypatch.setattr(data_speed, name, value)
    monkeypatch.setattr('scopevit.benchmark.timing.VISIT_SECONDS', 0.01)


def cells(report: str, start: str) -> list[str]:
    line = next(line for line in report.splitlines() if line.startswith(f'| {start} '))
    return [cell.strip() for cell in line.strip('|').split('|')[1:]]


def test_report_of_times_that_somebody_worked_out() -> None:
    ours = Pipeline(OURS, [], pseudo_collate, {'read': [1e-3] * 3, '2 Flip': [3e-3] * 3})
    theirs = Pipeline(LIBRARYS, [], pseudo_collate, {'read': [1e-3] * 3, '2 Flip': [9e-3] * 3})
    ours.rates, theirs.rates = {2: [500.0, 400.0]}, {2: [200.0, 200.0]}
    report = make_report([ours, theirs], ['About it.'], 900.0, {'processor': 'a fast one'})
    assert cells(report, 'Flip') == ['3.00', '9.00', '3.00']
    assert cells(report, 'an image') == ['4.00', '10.0', '2.50']
    assert cells(report, 'one core') == ['250', '100', '2.50']
    assert cells(report, '2 workers') == ['450', '200', '2.25 (2.12–2.38)']
    # 900 images a second by 250 a core are 3.6 cores, of 8 GPUs 28.8, of 64 GPUs 230.4.
    lines = [line.replace(' ', '') for line in report.splitlines()]
    assert {'|1|4|9|', '|8|29|72|', '|64|231|576|'} <= set(lines)
    assert '| processor | a fast one |' in report

    alone = make_report([ours], [], None, {})
    assert cells(alone, 'Flip') == ['3.00']
    assert '`--gpu-images-per-second` says it' in alone and '| 64 |' not in alone


def test_cores() -> None:
    assert [cores_needed(n, 1000.0, 250.0) for n in (1, 8)] == [4, 32]
    assert cores_needed(1, 10.0, 250.0) == 1


def draw(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, 'numbers': (np.random.rand(), torch.rand(1).item())}


def test_samples_depend_on_their_place_alone() -> None:
    pipeline = Pipeline('one', [draw], pseudo_collate)
    info = {'img_path': 'a.jpg'}
    first = pipeline.load(info, (0, 1))
    assert pipeline.load(info, (0, 2)) != first
    assert pipeline.load(info, (0, 1)) == first
    assert info == {'img_path': 'a.jpg'}
    assert loader_rate(pipeline, [info], 2, 1) > 0


def test_a_recipe_on_photographs(photographs: Path, tmp_path: Path, short: None) -> None:
    page, out = tmp_path / 'page.md', tmp_path / 'out'
    page.write_text(f'# Page\n\n{BEGIN}\nold\n{END}\n\nafter\n')
    given = RECIPE, str(photographs), 1234.0, str(out), str(page), SMALL
    report = run_data_speed(*given)
    names = ['read', 'decode', 'RandomResizedCrop', 'RandomFlip', 'RandAugment', 'RandomErasing',
             'PackInputs', 'collate', 'an image', 'one core', '1 worker']  # fmt: skip
    for name in names:
        found = cells(report, name)
        assert len(found) == 3, name
        assert all(float(cell) >= 0 for cell in found[:2]), name
    assert '1 images of 512×600 to 512×600 pixels, 512×600 in the middle, 61.' in report
    assert 'A training step of 2 images takes' in report
    assert 'Cores for GPUs that take 1234 images a second each' in report
    assert (out / 'report.md').read_text() == report
    assert page.read_text() == f'# Page\n\n{BEGIN}\n{report}\n{END}\n\nafter\n'
    told = json.loads((out / 'report.json').read_text())['pipelines']
    assert list(told) == [OURS, LIBRARYS]
    for pipeline in told.values():
        assert {len(rounds) for rounds in pipeline['seconds'].values()} == {2}
        assert len(pipeline['workers']['1']) == 1


@pytest.mark.parametrize(
    ('config', 'changes', 'message'),
    [
        (RECIPE, dict(gpu_rate=0.0), '--gpu-images-per-second must be above 0, not 0'),
        (RECIPE, dict(gpu_rate=float('nan')), 'must be above 0, not nan'),
        (RECIPE, dict(images='empty'), 'no images in .*empty'),
        (RECIPE, dict(images=None), 'data/imagenet .*; --images DIR takes photographs instead'),
        (RECIPE, dict(page='README.md'), '--page: README.md has no <!-- data measured'),
        (DETECTOR, dict(page='README.md'), '--page: README.md has no <!-- data of objects'),
        (DETECTOR, dict(images=None), 'data/coco.*; --images DIR takes photographs instead'),
        (POSE, {}, 'without the keypoints that .*td-hm'),
        ('none.py', {}, 'config not found: none.py'),
    ],
)
def test_bad_input(
    config: str, changes: dict[str, Any], message: str, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / 'empty').mkdir()
    given = dict(images=str(photographs), gpu_rate=None, page=None, out=str(tmp_path / 'out'))
    given |= changes
    if given['images'] == 'empty':
        given['images'] = str(tmp_path / 'empty')
    with pytest.raises(InputError, match=message):
        run_data_speed(config, **given)
    assert not (tmp_path / 'out').exists()
