"""The demo's data, how it was cut, and what its metrics score without a model."""

import base64
import hashlib
import importlib.util
import json
import logging
import re
import zipfile
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import pytest
import shapely
import torch

from scopevit.cli import run_tool

REPOSITORY = Path(__file__).parents[2]
DEMO = REPOSITORY / 'data' / 'demo'
NUCLEI = DEMO / 'nuclei'
POSE = DEMO / 'pose'
SPLITS = ('train', 'val')
# Digests of the files in deepforest-2.1.0.dist-info/RECORD.
TREES = {
    'OSBS_029.png': '2Ud8agDkkCx77kh9TFWCw7i5ovd_OQiilii4FrKR5u4',
    'OSBS_029.xml': 'H2jEAR17NRwpynVQcud_PRbm_R-ZW9BandTrlStVNzw',
    'SOAP_061.png': 'JWUI8aYhSb7EqAh5B3qGXK9Q6MrOCV5lZMdr76SA1CQ',
    'SOAP_061.xml': 'SDMoCvdf2cR5Zak-OJRSgoNennJcrEEr25Rp1jSAlHw',
    'LICENSE': 'VIcpOrVNSGHUG19RYisjb2EN75eKv22ICR90VZIyqxQ',
}
TOY_SIGMA = 0.026  # the nose's


def load_script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def maker() -> ModuleType:
    return load_script('tools/dataset_converters/make_demo_data.py')


@pytest.fixture(scope='module')
def baselines() -> ModuleType:
    return load_script('tools/demo/baselines.py')


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def instances(split: str) -> dict:
    return read_json(NUCLEI / 'annotations' / f'instances_{split}.json')


def people(split: str) -> dict:
    return read_json(POSE / 'annotations' / f'person_keypoints_{split}.json')


def per_image(coco: dict) -> list[tuple[dict, list[dict]]]:
    return [
        (image, [a for a in coco['annotations'] if a['image_id'] == image['id']])
        for image in coco['images']
    ]


# ---- the files --------------------------------------------------------------------------------


def test_size_and_licences():
    files = [path for path in DEMO.rglob('*') if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 15e6
    for folder in ('fashion_mnist', 'nuclei', 'pose', 'trees'):
        licence = (DEMO / folder / 'LICENSE').read_text()
        assert 'Copyright' in licence
        assert 'WARRANTIES' in licence


@pytest.mark.parametrize(('split', 'count'), [('train', 6000), ('t10k', 1000)])
def test_fashion_mnist_files(split, count):
    images = (DEMO / f'fashion_mnist/{split}-images-idx3-ubyte').read_bytes()
    labels = (DEMO / f'fashion_mnist/{split}-labels-idx1-ubyte').read_bytes()
    assert images[:16] == b''.join(n.to_bytes(4, 'big') for n in (0x803, count, 28, 28))
    assert labels[:8] == b''.join(n.to_bytes(4, 'big') for n in (0x801, count))
    assert len(images) == 16 + count * 784
    assert len(labels) == 8 + count
    counts = np.bincount(list(labels[8:]))
    assert len(counts) == 10
    assert counts.min() > 0.85 * count / 10


def test_fashion_mnist_splits_share_no_image():
    train, test = (
        {
            image.tobytes()
            for image in np.fromfile(
                DEMO / f'fashion_mnist/{split}-images-idx3-ubyte', np.uint8, offset=16
            ).reshape(-1, 784)
        }
        for split in ('train', 't10k')
    )
    assert not train & test


@pytest.mark.parametrize(
    ('split', 'tiles', 'counts'), [('train', 48, [517, 435, 294]), ('val', 24, [319, 272, 59])]
)
def test_nuclei_counts(split, tiles, counts):
    coco = instances(split)
    assert [c['name'] for c in coco['categories']] == ['connective', 'inflammatory', 'neoplastic']
    assert [c['id'] for c in coco['categories']] == [1, 2, 3]
    assert len(coco['images']) == tiles
    found = [a['category_id'] for a in coco['annotations']]
    assert [found.count(i) for i in (1, 2, 3)] == counts
    for key in ('images', 'annotations'):
        ids = [item['id'] for item in coco[key]]
        assert len(set(ids)) == len(ids)
    stems = {Path(image['file_name']).stem for image in coco['images']}
    assert stems == {path.stem for path in (NUCLEI / 'images' / split).iterdir()}
    assert stems == {path.stem for path in (NUCLEI / 'masks' / split).iterdir()}


@pytest.mark.parametrize('split', SPLITS)
def test_nuclei_masks_boxes_and_types_agree(split):
    for image, annotations in per_image(instances(split)):
        picture = cv2.imread(str(NUCLEI / 'images' / split / image['file_name']))
        name = Path(image['file_name']).with_suffix('.png').name
        types = cv2.imread(str(NUCLEI / 'masks' / split / name), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (image['height'], image['width'], 3) == (250, 250, 3)
        assert types.shape == (250, 250)
        assert types.dtype == np.uint8
        assert set(np.unique(types)) <= {0, 1, 2, 3}
        taken = np.zeros((250, 250), bool)
        for annotation in annotations:
            mask = mask_utils.decode(annotation['segmentation']).astype(bool)
            assert mask.shape == (250, 250)
            ys, xs = np.nonzero(mask)
            extent = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            assert annotation['bbox'] == extent
            assert annotation['area'] == mask.sum() >= 20
            assert annotation['iscrowd'] == 0
            assert (types[mask] == annotation['category_id']).all()
            assert not (taken & mask).any()
            taken |= mask
        # what the instances leave over are the parts under 20 pixels, at the tile's border
        rest = ((types > 0) & ~taken).astype(np.uint8)
        _, _, parts, _ = cv2.connectedComponentsWithStats(rest)
        for x, y, width, height, area in parts[1:]:
            assert area < 20
            assert 0 in (x, y) or 250 in (x + width, y + height)


def test_nuclei_splits_share_no_pixel():
    covered = {split: set() for split in SPLITS}
    for split in SPLITS:
        for image in instances(split)['images']:
            source, y, x = re.fullmatch(r'(\w+)_(\d{4})_(\d{4})\.jpg', image['file_name']).groups()
            covered[split].add((source, int(y), int(x)))
            assert (int(y) < 1000) == (split == 'train')
    for split, rows in (('train', range(0, 1000, 250)), ('val', range(1000, 1500, 250))):
        assert covered[split] == {
            (source, y, x)
            for source in ('hgsc_nest', 'hgsc_stromal')
            for y in rows
            for x in range(0, 1500, 250)
        }


@pytest.mark.parametrize(
    ('split', 'frames', 'count'),
    [('train', range(0, 70, 4), 108), ('val', range(75, 100, 2), 75)],
)
def test_people(split, frames, count):
    coco = people(split)
    names = {f'cam{camera:02d}_{frame:04d}.jpg' for camera in (1, 2, 3, 4) for frame in frames}
    assert {image['file_name'] for image in coco['images']} == names
    assert {path.name for path in (POSE / 'images' / split).iterdir()} == names
    assert len(coco['annotations']) == count
    assert len(coco['categories'][0]['keypoints']) == 17
    for image, annotations in per_image(coco):
        picture = cv2.imread(str(POSE / 'images' / split / image['file_name']))
        assert picture.shape == (image['height'], image['width'], 3)
        assert (image['width'], image['height']) in ((360, 440), (363, 440))
        assert annotations
        for annotation in annotations:
            x, y, width, height = annotation['bbox']
            assert x >= 0
            assert y >= 0
            assert x + width <= image['width'] + 1e-6
            assert y + height <= image['height'] + 1e-6
            assert annotation['area'] == pytest.approx(0.53 * width * height, abs=0.01)
            points = np.reshape(annotation['keypoints'], (17, 3))
            seen = points[:, 2] == 2
            assert seen.sum() == annotation['num_keypoints'] >= 6
            assert (points[~seen] == 0).all()
            assert (points[seen, :2] >= (x, y)).all()
            assert (points[seen, :2] <= np.add((x, y), (width, height)) + 1e-6).all()


# ---- how it was cut ---------------------------------------------------------------------------


def test_tile_origins_cover_whole_tiles_only(maker):
    assert maker.tile_origins((4, 10), 7, 3) == [(4, 0), (4, 3), (7, 0), (7, 3)]


def test_first_of_idx(maker):
    data = bytes([0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 2]) + bytes(range(6))
    cut = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(range(4))
    assert maker.first_of_idx(data, 2) == cut
    with pytest.raises(maker.DemoDataError, match='at least 4 items'):
        maker.first_of_idx(data, 4)


def test_rasterize_counts_every_covered_pixel(maker):
    # from (1, 1) to (3.5, 2): columns 1, 2 and half of 3; row 1; no pixel by its edge alone
    y, x, window = maker.rasterize(shapely.box(1, 1, 3.5, 2), (10, 10))
    assert (y, x, window.tolist()) == (1, 1, [[True, True, True]])
    # the triangle under y = x in a 3 x 3 square covers the diagonal and what is right of it
    y, x, window = maker.rasterize(shapely.Polygon([(0, 0), (3, 0), (3, 3)]), (10, 10))
    assert (y, x) == (0, 0)
    assert window.astype(int).tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    # clipped to the image
    y, x, window = maker.rasterize(shapely.box(8, 8, 12, 12), (10, 10))
    assert (y, x, window.shape) == (8, 8, (2, 2))


def test_label_maps_and_instances(maker):
    polygons = [shapely.box(0, 0, 4, 5), shapely.box(3, 0, 8, 5), shapely.box(0, 7, 1, 8)]
    numbers, types = maker.label_maps(polygons, [2, 1, 3], (10, 10))
    assert np.bincount(numbers.ravel()).tolist() == [59, 15, 25, 1]  # the later takes column 3
    assert np.bincount(types.ravel()).tolist() == [59, 25, 15, 1]
    first, second = maker.tile_instances(numbers, types, min_area=2)
    assert (first['category_id'], first['bbox'], first['area']) == (2, [0, 0, 3, 5], 15)
    assert (second['category_id'], second['bbox'], second['area']) == (1, [3, 0, 5, 5], 25)
    assert mask_utils.area(first['segmentation']) == 15


def test_person_annotation(maker):
    points = np.zeros((25, 3))
    points[:6] = [[10 * i, 40, 0.9] for i in range(1, 7)]
    points[6] = [500, 500, 0.3]  # not above 0.3
    points[18] = [30, 140, 0.5]  # the neck and feet widen the box
    found = maker.person_annotation(points, (0.5, 0.5), (100, 72))
    # x 5..30 and y 20..70 after halving, margins 2.5 and 5, clipped at 72
    assert found['bbox'] == [2.5, 15, 30, 57]
    assert found['area'] == pytest.approx(0.53 * 30 * 57, abs=0.005)
    assert found['num_keypoints'] == 6
    assert found['keypoints'][:6] == [5, 20, 2, 10, 20, 2]
    assert not any(found['keypoints'][18:])
    points[0, 2] = 0
    assert maker.person_annotation(points, (0.5, 0.5), (100, 72)) is None


def test_frames_of_the_splits_are_apart(maker):
    assert max(maker.POSE_FRAMES['train']) < 70
    assert min(maker.POSE_FRAMES['val']) >= 75


def test_a_missing_package_is_one_line_and_writes_nothing(maker, tmp_path, monkeypatch, capsys):
    (tmp_path / 'empty').mkdir()
    out = tmp_path / 'demo'
    monkeypatch.setattr(
        'sys.argv', ['make_demo_data.py', '--source', f'{tmp_path / "empty"}', '--out', f'{out}']
    )
    assert maker.main() == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert maker.FASHION.file in error
    assert list(out.iterdir()) == []
    (tmp_path / 'empty' / maker.FASHION.file).write_bytes(b'other')
    assert maker.main() == 1
    assert 'SHA-256' in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {'empty', 'demo'}


def test_trees_are_those_of_the_package(maker, tmp_path):
    package = tmp_path / maker.DEEPFOREST.file
    with zipfile.ZipFile(package, 'w') as wheel:
        wheel.write(DEMO / 'trees' / 'LICENSE', 'deepforest-2.1.0.dist-info/licenses/LICENSE')
        for path in (DEMO / 'trees').glob('*_*'):
            wheel.write(path, f'deepforest/data/{path.name}')
    maker.make_trees(package, tmp_path / 'trees')
    for name, digest in TREES.items():
        content = (DEMO / 'trees' / name).read_bytes()
        assert base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode() == f'{digest}='
        assert (tmp_path / 'trees' / name).read_bytes() == content
    assert {path.name for path in (DEMO / 'trees').iterdir()} == set(TREES)


# ---- the baselines ----------------------------------------------------------------------------


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def toy_coco(annotation: dict, size: int, name: str = 'cam01_0000.jpg') -> dict:
    annotation = {'id': 1, 'image_id': 1, 'category_id': 1, 'iscrowd': 0, **annotation}
    return {
        'info': {},
        'images': [{'id': 1, 'file_name': name, 'width': size, 'height': size}],
        'categories': [{'id': 1, 'name': 'thing'}],
        'annotations': [annotation],
    }


def test_classification_baseline_by_hand(baselines, tmp_path):
    header = bytes([0, 0, 8, 1, 0, 0, 0, 4])
    (tmp_path / 'train-labels-idx1-ubyte').write_bytes(header + bytes([3, 1, 3, 0]))
    (tmp_path / 't10k-labels-idx1-ubyte').write_bytes(header + bytes([3, 1, 1, 1]))
    assert baselines.classification_baseline(tmp_path) == {'accuracy/top1': 25.0}


def test_segmentation_baseline_by_hand(baselines, tmp_path):
    (tmp_path / 'masks' / 'val').mkdir(parents=True)
    for name, label in (('a', [[0, 0], [0, 1]]), ('b', [[0, 2], [3, 3]])):
        path = str(tmp_path / 'masks' / 'val' / f'{name}.png')
        cv2.imwrite(path, np.array(label, np.uint8))
    # 4 of 8 pixels are background: IoU 0.5, 0, 0, 0
    assert baselines.segmentation_baseline(tmp_path) == {'mIoU': pytest.approx(12.5)}


def test_detection_baseline_by_hand(baselines, tmp_path):
    """One 10 x 10 object in the last corner of 20 x 20: spacing 1 finds it, fourth of four."""
    for split, corner in (('train', 0), ('val', 10)):
        mask = np.zeros((20, 20), np.uint8, order='F')
        mask[corner : corner + 10, corner : corner + 10] = 1
        code = mask_utils.encode(mask)
        code['counts'] = code['counts'].decode()
        annotation = {'bbox': [corner, corner, 10, 10], 'area': 100, 'segmentation': code}
        write_json(tmp_path / f'annotations/instances_{split}.json', toy_coco(annotation, 20))
    assert baselines.detection_baseline(tmp_path) == {
        'coco/bbox_mAP_50': pytest.approx(0.25),
        'coco/segm_mAP_50': pytest.approx(0.25),
    }


def test_grid_and_masks_by_hand(baselines):
    boxes = baselines.grid_boxes((20, 10), (10, 10), 1.0)
    assert boxes.tolist() == [[0, 0, 10, 10], [10, 0, 10, 10]]
    boxes = baselines.grid_boxes((20, 10), (10, 12), 4.0)
    assert boxes.tolist() == [[5, 0, 10, 10]]  # one, in the middle, clipped above and below
    box = np.array([2, 3, 8, 4])
    assert mask_utils.toBbox(baselines.box_mask(box, (20, 20))).tolist() == [2, 3, 8, 4]
    assert mask_utils.toBbox(baselines.ellipse_mask(box, (20, 20))).tolist() == [2, 3, 8, 4]
    assert mask_utils.area(baselines.box_mask(box, (20, 20))) == 32
    large = mask_utils.area(baselines.ellipse_mask(np.array([10, 10, 160, 80]), (200, 200)))
    assert large == pytest.approx(np.pi * 80 * 40, rel=0.01)


def test_mean_pose_by_hand(baselines):
    annotations = [
        {'bbox': [0, 0, 10, 20], 'keypoints': [5, 5, 2, 0, 0, 0, 0, 0, 0]},
        {'bbox': [10, 10, 10, 10], 'keypoints': [20, 15, 2, 12, 20, 1, 0, 0, 0]},
    ]
    # (0.5, 0.25) and (1, 0.5); (0.2, 1) alone; never labelled
    expected = [[0.75, 0.375], [0.2, 1.0], [0.5, 0.5]]
    np.testing.assert_allclose(baselines.mean_pose(annotations), expected)


def test_pose_baselines_by_hand(baselines, tmp_path):
    """A nose that is off by a similarity of 0.72 passes 0.5, 0.55, 0.6, 0.65 and 0.7 of ten."""
    area = 5300
    shift = np.sqrt(-np.log(0.72) * 2 * area) * 2 * TOY_SIGMA
    for split, x in (('train', 50), ('val', 50 + shift)):
        keypoints = [x, 50, 2] + [0, 0, 0] * 16
        annotation = {'bbox': [0, 0, 100, 100], 'area': area, 'keypoints': keypoints}
        annotation['num_keypoints'] = 1
        path = tmp_path / f'annotations/person_keypoints_{split}.json'
        write_json(path, toy_coco(annotation, 100))
    assert baselines.pose_baseline(tmp_path) == {'coco/AP': pytest.approx(0.5)}
    assert baselines.pose_memory_baseline(tmp_path) == {'coco/AP': pytest.approx(0.5)}


def test_values_on_the_demo_data(baselines):
    test = np.fromfile(DEMO / 'fashion_mnist/t10k-labels-idx1-ubyte', np.uint8, offset=8)
    train = np.fromfile(DEMO / 'fashion_mnist/train-labels-idx1-ubyte', np.uint8, offset=8)
    assert np.bincount(train).argmax() == 1
    background = np.mean(
        [
            (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == 0).mean()
            for path in (NUCLEI / 'masks' / 'val').iterdir()
        ]
    )
    found = {
        'classification': baselines.classification_baseline(DEMO / 'fashion_mnist'),
        'segmentation': baselines.segmentation_baseline(NUCLEI),
        'detection': baselines.detection_baseline(NUCLEI),
        'pose': baselines.pose_baseline(POSE),
    }
    memory = baselines.pose_memory_baseline(POSE)
    assert found['classification'] == {'accuracy/top1': pytest.approx(100 * (test == 1).mean())}
    assert found['segmentation'] == {'mIoU': pytest.approx(100 * background / 4, abs=1e-4)}
    assert found['detection']['coco/bbox_mAP_50'] == pytest.approx(0.006637, abs=1e-6)
    assert found['detection']['coco/segm_mAP_50'] == pytest.approx(0.005234, abs=1e-6)
    assert found['pose'] == {'coco/AP': pytest.approx(0.0006373, abs=1e-7)}
    assert memory == {'coco/AP': pytest.approx(0.17262, abs=1e-5)}
    readme = (DEMO / 'README.md').read_text()
    for task, values in [*found.items(), ('pose', memory)]:
        for metric, value in values.items():
            row = rf'^\| {task} \| .* \| `{metric}` \| {value:.4g} \|$'
            assert re.search(row, readme, re.MULTILINE), (task, metric, value)


@pytest.fixture
def quiet():
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


def test_pose_is_scored_as_mmpose_does(baselines, quiet):
    from mmpose.datasets import CocoDataset
    from mmpose.datasets.datasets.utils import parse_pose_metainfo
    from mmpose.evaluation import CocoMetric

    ann_file = POSE / 'annotations' / 'person_keypoints_val.json'
    metric = CocoMetric(ann_file=str(ann_file), nms_mode='none')
    metric.dataset_meta = parse_pose_metainfo(CocoDataset.METAINFO)
    pose = baselines.mean_pose(people('train')['annotations'])
    for annotation in people('val')['annotations']:
        box = np.array(annotation['bbox'])
        instances = {
            'keypoints': (box[:2] + pose * box[2:])[None],
            'keypoint_scores': np.ones((1, 17)),
        }
        sample = {'id': annotation['id'], 'img_id': annotation['image_id'], 'gt_instances': {}}
        metric.process({}, [{**sample, 'pred_instances': instances}])
    score = metric.evaluate(75)['coco/AP']
    assert score == pytest.approx(baselines.pose_baseline(POSE)['coco/AP'], abs=1e-9)


def test_detection_is_scored_as_mmdet_does(baselines, quiet):
    from mmdet.evaluation import CocoMetric

    ann_file = NUCLEI / 'annotations' / 'instances_val.json'
    metric = CocoMetric(ann_file=str(ann_file), metric='bbox')
    metric.dataset_meta = {'classes': ('connective', 'inflammatory', 'neoplastic')}
    val = instances('val')
    results = []
    for image, annotations in per_image(val):
        # every second nucleus below a grid of boxes that are mostly wrong
        boxes = [a['bbox'] for a in annotations[::2]]
        labels = [a['category_id'] - 1 for a in annotations[::2]]
        grid = baselines.grid_boxes((250, 250), (17, 20), 2.0).tolist()
        scores = [0.4] * len(boxes) + [0.6] * len(grid)
        boxes, labels = boxes + grid, labels + [0] * len(grid)
        corners = torch.tensor(boxes, dtype=torch.float64)
        corners[:, 2:] += corners[:, :2]
        prediction = {
            'bboxes': corners,
            'scores': torch.tensor(scores),
            'labels': torch.tensor(labels),
        }
        sample = {'img_id': image['id'], 'ori_shape': (250, 250)}
        metric.process({}, [{**sample, 'pred_instances': prediction}])
        results += [
            {'image_id': image['id'], 'category_id': label + 1, 'bbox': box, 'score': score}
            for box, label, score in zip(boxes, labels, scores, strict=True)
        ]
    score = metric.evaluate(24)['coco/bbox_mAP_50']
    assert 0.3 < score < 0.6
    found = baselines._average_precision(val, results, 'bbox')
    assert score == pytest.approx(found, abs=5.1e-4)  # mmdet rounds to three digits


def test_missing_data_is_one_line(baselines, tmp_path, capsys):
    assert run_tool(baselines.main, ['--data-root', str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'train-labels-idx1-ubyte is missing' in error
