"""The stand-in for xtcocotools, against plain pycocotools and against OKS from its definition."""

import copy
import importlib
import sys

import numpy as np
import pytest
from pycocotools import cocoeval as plain
from pycocotools.coco import COCO

from scopevit import compat
from scopevit.compat import xtcocotools as shim
from scopevit.compat.standins.xtcocotools.coco import COCO as StandInCOCO
from scopevit.compat.standins.xtcocotools.cocoeval import COCOeval


def make_data(points, seed, hidden=True):
    """Two images of five persons each, and detections near them; areas all over the ranges."""
    rng = np.random.default_rng(seed)
    images = [{'id': i, 'width': 640, 'height': 480} for i in (1, 2)]
    annotations, results = [], []
    for n in range(10):
        x, y = rng.uniform(0, 300, 2)
        w, h = rng.uniform(30, 250, 2)
        xy = rng.uniform((x, y), (x + w, y + h), (points, 2))
        visible = rng.integers(0, 3, points)
        visible[0] = 2
        if hidden and n == 3:
            visible[:] = 0  # such a person is ignored
        annotations.append(
            {
                'id': n + 1,
                'image_id': n % 2 + 1,
                'category_id': 1,
                'bbox': [x, y, w, h],
                'area': w * h * rng.uniform(0.3, 0.8),
                'iscrowd': 0,
                'keypoints': np.column_stack([xy, visible]).ravel().tolist(),
                'num_keypoints': int((visible > 0).sum()),
            }
        )
        for _ in range(2):
            noise = rng.normal(0, rng.uniform(0.005, 0.15) * np.sqrt(w * h), (points, 2))
            results.append(
                {
                    'image_id': n % 2 + 1,
                    'category_id': 1,
                    'keypoints': np.column_stack([xy + noise, np.ones(points)]).ravel().tolist(),
                    'score': float(rng.random()),
                }
            )
    dataset = {'images': images, 'annotations': annotations, 'categories': [{'id': 1}]}
    return dataset, results


def load(dataset, results):
    gt = COCO()
    gt.dataset = copy.deepcopy(dataset)
    gt.createIndex()
    return gt, gt.loadRes(copy.deepcopy(results))


def stats(evaluator):
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return evaluator.stats


def oks(gt, dt, sigmas, area):
    total, count = 0, 0
    for k, sigma in enumerate(sigmas):
        if gt['keypoints'][3 * k + 2] > 0:
            dx = gt['keypoints'][3 * k] - dt['keypoints'][3 * k]
            dy = gt['keypoints'][3 * k + 1] - dt['keypoints'][3 * k + 1]
            total += np.exp(-(dx * dx + dy * dy) / (2 * area * (2 * sigma) ** 2))
            count += 1
    return total / count


def brute_ap(dataset, results, sigmas, threshold, use_area):
    """AP at one OKS: greedy matches by score, precision made monotone, read at 101 recalls."""
    matched, hits = set(), []
    for dt in sorted(results, key=lambda r: -r['score']):
        best = None
        for gt in dataset['annotations']:
            if gt['image_id'] == dt['image_id'] and gt['id'] not in matched:
                area = gt['area'] if use_area else 0.53 * gt['bbox'][2] * gt['bbox'][3]
                value = oks(gt, dt, sigmas, area)
                if value >= threshold and (best is None or value > best[0]):
                    best = value, gt['id']
        if best:
            matched.add(best[1])
        hits.append(best is not None)
    recall = np.cumsum(hits) / len(dataset['annotations'])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    ap = 0
    for level in np.linspace(0, 1, 101):
        reached = precision[recall >= level]
        ap += max(reached) / 101 if len(reached) else 0
    return ap, recall[-1]


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_17_points_as_pycocotools(seed):
    gt, dt = load(*make_data(17, seed))
    expected = stats(plain.COCOeval(gt, dt, 'keypoints'))
    values = stats(COCOeval(*load(*make_data(17, seed)), 'keypoints', None, True))
    np.testing.assert_array_equal(values, expected)
    assert 0 < values[0] < 1 and len(values) == 10


@pytest.mark.parametrize('points', [5, 17, 21])
@pytest.mark.parametrize('use_area', [True, False])
def test_any_sigmas_against_the_definition(points, use_area):
    dataset, results = make_data(points, seed=points, hidden=False)
    sigmas = np.random.default_rng(9).uniform(0.02, 0.15, points)
    values = stats(COCOeval(*load(dataset, results), 'keypoints', sigmas, use_area))
    thresholds = np.linspace(0.5, 0.95, 10)
    brute = np.array([brute_ap(dataset, results, sigmas, t, use_area) for t in thresholds])
    expected = [*brute.mean(axis=0), *brute[0], *brute[5]]
    np.testing.assert_allclose(
        [values[0], values[5], values[1], values[6], values[2], values[7]], expected, atol=1e-9
    )
    assert 0 < values[0] < 1


def test_sigmas_matter():
    dataset, results = make_data(5, seed=1)
    strict, loose = (
        stats(COCOeval(*load(dataset, results), 'keypoints', [sigma] * 5)) for sigma in (0.02, 0.2)
    )
    assert strict[0] < loose[0]


def test_area_of_the_box():
    dataset, results = make_data(17, seed=3)
    for ann in dataset['annotations']:
        ann['area'] = ann['bbox'][2] * ann['bbox'][3] * 0.53
    expected = stats(plain.COCOeval(*load(dataset, results), 'keypoints'))
    for ann in dataset['annotations']:
        ann['area'] = 1.0
    values = stats(COCOeval(*load(dataset, results), 'keypoints', None, use_area=False))
    np.testing.assert_array_equal(values, expected)
    for ann in dataset['annotations']:
        del ann['area']  # as mmpose writes it with use_area=False
        del ann['num_keypoints']
    gt, dt = load(dataset, results)
    np.testing.assert_array_equal(
        stats(COCOeval(gt, dt, 'keypoints', None, use_area=False)), expected
    )
    assert 'area' not in gt.dataset['annotations'][0]
    assert 'ignore' not in gt.dataset['annotations'][0]


def test_detections_without_any_score_do_not_count():
    dataset, results = make_data(17, seed=4)
    expected = stats(COCOeval(*load(dataset, results)))
    ghost = dict(results[0], score=2.0, keypoints=[0.0] * 51)
    np.testing.assert_array_equal(stats(COCOeval(*load(dataset, [*results, ghost]))), expected)


def test_nobody_found_is_an_ap_of_0(tmp_path):
    dataset, results = make_data(17, 0)
    gt = StandInCOCO()
    gt.dataset = dataset
    gt.createIndex()
    (tmp_path / 'none.json').write_text('[]')
    for empty in ([], str(tmp_path / 'none.json')):
        evaluator = COCOeval(gt, gt.loadRes(empty), 'keypoints', np.full(17, 0.05))
        # AP and AR.
        assert [stats(evaluator)[i] for i in (0, 5)] == [0, 0]
    assert len(gt.loadRes(results).anns) == len(results)


def test_mmpose_clears_use_segm_and_boxes_work():
    dataset, results = make_data(17, seed=5)
    evaluator = COCOeval(*load(dataset, results), 'keypoints')
    evaluator.params.useSegm = None
    assert len(stats(evaluator)) == 10
    expected = stats(plain.COCOeval(*load(dataset, results), 'bbox'))
    np.testing.assert_array_equal(stats(COCOeval(*load(dataset, results), 'bbox')), expected)


def test_what_is_not_there_says_so():
    with pytest.raises(NotImplementedError, match='keypoints_crowd'):
        COCOeval(iouType='keypoints_crowd')
    with pytest.raises(ValueError, match='17 keypoints, but 5 sigmas'):
        stats(COCOeval(*load(*make_data(17, seed=0)), 'keypoints', np.ones(5)))


@pytest.fixture
def unimported(monkeypatch, tmp_path):
    """No xtcocotools is imported, or has been looked for; the folder of importable files."""
    saved = {m: sys.modules.pop(m) for m in list(sys.modules) if m.startswith('xtcocotools')}
    finders = [f for f in sys.meta_path if getattr(f, 'fullname', None) != 'xtcocotools']
    monkeypatch.setattr(sys, 'meta_path', finders)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [m for m in sys.modules if m.startswith('xtcocotools')]:
        del sys.modules[name]
    sys.modules.update(saved)


def test_stand_in_is_imported_by_name(unimported):
    shim.apply()
    if 'standins' not in importlib.import_module('xtcocotools').__file__:
        pytest.skip('the real one is installed')
    assert issubclass(importlib.import_module('xtcocotools.coco').COCO, COCO)
    mask = importlib.import_module('xtcocotools.mask')
    rle = mask.merge(mask.frPyObjects([[1, 1, 4, 1, 4, 3, 1, 3]], 5, 6))
    assert mask.decode(rle).sum() == mask.area(rle) == 6
    assert 'standins' in importlib.import_module('xtcocotools.cocoeval').__file__


@pytest.mark.parametrize(
    'mask,wins',
    [
        ('fine = True', True),
        ('raise ImportError("numpy.core.multiarray failed to import")', False),
        ('raise ValueError("numpy.dtype size changed")', False),
    ],
)
def test_real_one_wins_if_it_imports(unimported, mask, wins):
    package = unimported / 'xtcocotools'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / 'mask.py').write_text(f'{mask}\n')
    importlib.invalidate_caches()
    shim.apply()
    compat.apply()  # and again
    found = importlib.import_module('xtcocotools.mask').__file__
    assert ('standins' not in found) is wins
