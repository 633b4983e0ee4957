"""The recipes' data sets on miniature trees of real images in the folders of the real data sets."""

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, Registry
from mmseg.datasets import ADE20KDataset
from recipes import PEERS, PRIMITIVES, ROOT, build, is_classifier, load, method

from scopevit.engine.checks.data import (
    CheckedLoading,
    check_dataset,
    check_dataset_files,
    check_files,
)
from scopevit.errors import InputError
from scopevit.preflight.data import check_data

# All others differ from the primitives in the model alone, says test_names.
RECIPES = [*PRIMITIVES, *(recipe for recipe in PEERS if is_classifier(recipe))]

MODES = ('train', 'val', 'test')
DEMO = ROOT / 'data' / 'demo'
# In the order of their names, which is that of the labels. The first and the last are real.
WORDNET_IDS = ['n01440764', *(f'n{2_000_000 + i:08d}' for i in range(998)), 'n15075141']
# Ids that COCO leaves out of 1 to 90.
NOT_IN_COCO = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('tree')
    write_imagenet(root / 'data' / 'imagenet')
    write_custom(root / 'data' / 'custom')
    write_coco(root / 'data' / 'coco')
    write_ade(root / 'data' / 'ade' / 'ADEChallengeData2016')
    return root


def people(split: str) -> dict:
    return json.loads((DEMO / f'pose/annotations/person_keypoints_{split}.json').read_text())


def copy_image(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def write_imagenet(root: Path) -> None:
    """One image each of the first and the last of 1000 classes, 360 x 440 (width x height)."""
    for split in ('train', 'val'):
        for name in WORDNET_IDS:
            (root / split / name).mkdir(parents=True)
        first, second = sorted((DEMO / 'pose' / 'images' / split).iterdir())[:2]
        copy_image(first, root / split / WORDNET_IDS[0] / f'{WORDNET_IDS[0]}_1.JPEG')
        copy_image(second, root / split / WORDNET_IDS[-1] / f'{WORDNET_IDS[-1]}_1.JPEG')


def write_custom(root: Path) -> None:
    """An image each of 10 classes, 250 x 250."""
    for split in ('train', 'val'):
        sources = sorted((DEMO / 'nuclei' / 'images' / split).iterdir())[:10]
        for i, source in enumerate(sources):
            copy_image(source, root / split / f'class{i}' / source.name)


def write_coco(root: Path) -> None:
    """Two images a split, 360 x 440, with two people each; the smaller one is a toothbrush to
    the detectors, the last of COCO's 80 categories."""
    (root / 'annotations').mkdir(parents=True)
    ids = [i for i in range(1, 91) if i not in NOT_IN_COCO]
    names = CocoDataset.METAINFO['classes']
    for split in ('train', 'val'):
        content = people(split)
        content['images'] = content['images'][:2]
        kept = {image['id'] for image in content['images']}
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
        for image in content['images']:
            name = image['file_name']
            copy_image(DEMO / 'pose' / 'images' / split / name, root / f'{split}2017' / name)
        path = root / 'annotations' / f'person_keypoints_{split}2017.json'
        path.write_text(json.dumps(content))

        content['categories'] = [dict(id=i, name=name) for i, name in zip(ids, names)]
        for annotation in content['annotations']:
            x, y, width, height = annotation['bbox']
            right, bottom = x + width, y + height
            annotation['segmentation'] = [[x, y, right, y, right, bottom, x, bottom]]
            annotation['category_id'] = 1 if width > 100 else 90
        path = root / 'annotations' / f'instances_{split}2017.json'
        path.write_text(json.dumps(content))
    found = [
        dict(image_id=a['image_id'], category_id=1, bbox=a['bbox'], score=0.5 + 0.1 * i)
        for i, a in enumerate(content['annotations'])
    ]
    path = root / 'person_detection_results' / 'COCO_val2017_detections_AP_H_56_person.json'
    path.parent.mkdir()
    path.write_text(json.dumps(found))


def write_ade(root: Path) -> None:
    """Two images a split, 250 x 250; what has label 3 in the demo is of the last class."""
    for split, folder in (('train', 'training'), ('val', 'validation')):
        (root / 'annotations' / folder).mkdir(parents=True)
        for source in sorted((DEMO / 'nuclei' / 'images' / split).iterdir())[:2]:
            copy_image(source, root / 'images' / folder / source.name)
            labels = read_labels(split, source.stem)
            labels[labels == 3] = 150
            path = root / 'annotations' / folder / f'{source.stem}.png'
            cv2.imwrite(str(path), labels)


def read_labels(split: str, name: str) -> np.ndarray:
    path = DEMO / 'nuclei' / 'masks' / split / f'{name}.png'
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope='module')
def passed() -> set[str]:
    """The data of the recipes that have passed."""
    return set()


@pytest.mark.parametrize('recipe', RECIPES)
def test_data_is_found_fits_the_model_and_loads(recipe, tree, passed, monkeypatch):
    cfg = load(recipe)
    data = str([cfg.get(f'{m}_{part}') for m in MODES for part in ('dataloader', 'evaluator')])
    if data in passed:
        return
    monkeypatch.chdir(tree)
    torch.manual_seed(0)
    np.random.seed(0)
    model = build(cfg)
    check_files(cfg, *MODES)
    found = check_data(cfg).findings
    assert [f for f in found if f.level == 'error'] == []
    for mode in MODES:
        dataset = build_in_scope(DATASETS, cfg[f'{mode}_dataloader'].dataset, cfg)
        check_dataset(dataset, model, mode)
        assert isinstance(dataset.pipeline.transforms[0], CheckedLoading)
        samples = [dataset[i] for i in range(len(dataset))]
        for sample in samples:
            assert (sample['inputs'].shape[0], sample['inputs'].dtype) == (3, torch.uint8)
        CHECKS[recipe.partition('/')[0]](recipe, mode, samples)
        if mode != 'train':
            build_in_scope(METRICS, cfg[f'{mode}_evaluator'], cfg)
    passed.add(data)


def build_in_scope(registry: Registry, part: dict, cfg: Config) -> object:
    with registry.switch_scope_and_registry(cfg.default_scope) as scoped:
        return scoped.build(copy.deepcopy(part))


def check_classification(recipe: str, mode: str, samples: list[dict]) -> None:
    (size,) = {s.scale for s in load(recipe).train_dataloader.dataset.pipeline if 'scale' in s}
    assert {tuple(s['inputs'].shape[1:]) for s in samples} == {(size, size)}
    labels = [s['data_samples'].gt_label.tolist() for s in samples]
    assert labels == ([[i] for i in range(10)] if method(recipe) == 'custom' else [[0], [999]])
    if mode == 'train':
        return
    # The short side becomes 284 or 248 pixels, of which the middle 256 or 224 are kept.
    for sample in samples:
        image = cv2.imread(sample['data_samples'].img_path)
        height, width = image.shape[:2]
        middle = round(0.9 * min(height, width))
        top, left = (height - middle) // 2, (width - middle) // 2
        crop = cv2.resize(image[top : top + middle, left : left + middle], (size, size))
        difference = sample['inputs'].permute(1, 2, 0).numpy().astype(float) - crop
        # Two ways to interpolate differ by 3.6 to 6.6 of 255, a crop of 0.875 by 12.6 and more.
        assert np.abs(difference).mean() < 9


def check_detection(recipe: str, mode: str, samples: list[dict]) -> None:
    assert len(samples) == 2
    for sample in samples:
        data, (height, width) = sample['data_samples'], sample['inputs'].shape[1:]
        # 360 x 440 scaled so that the short side is 800, or of a multi-scale recipe one of 11.
        scale = width / 360
        assert height == pytest.approx(440 * scale, abs=1)
        if mode == 'train' and '_ms-' in recipe:
            assert width in range(480, 801, 32)
        else:
            assert (width, height) == (800, 978)
        assert data.img_shape == (height, width)
        people_of = people('train' if mode == 'train' else 'val')['annotations']
        boxes = [a['bbox'] for a in people_of if a['image_id'] == data.img_id]
        expected = [[x, y, x + w, y + h] for x, y, w, h in boxes]
        instances = data.gt_instances
        assert instances.labels.tolist() == [0, 79]
        # The pipeline leaves the annotations of validation images at their original size.
        scales = scale if mode == 'train' else 1
        found = instances.bboxes.tensor / scales
        if data.get('flip'):
            found = found[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor(
                [360, 0, 360, 0]
            )
        assert found.numpy() == pytest.approx(np.array(expected), abs=1)
        assert ('masks' in instances) == (method(recipe) == 'mask-rcnn')
        if 'masks' in instances:  # they are the boxes
            assert instances.masks.areas == pytest.approx(instances.bboxes.areas.numpy(), rel=0.05)


def check_segmentation(recipe: str, mode: str, samples: list[dict]) -> None:
    assert len(samples) == 2
    for sample in samples:
        labels = sample['data_samples'].gt_sem_seg.data
        assert set(labels.unique().tolist()) <= {0, 1, 149, 255}
        assert len(labels.unique()) > 1
        if mode == 'train':
            height, width = sample['inputs'].shape[1:]
            assert 125 <= min(height, width) <= max(height, width) <= 512
            assert labels.shape == (1, height, width)
        else:
            assert sample['inputs'].shape == (3, 512, 512)
            raw = read_labels('val', Path(sample['data_samples'].img_path).stem)
            expected = np.select([raw == 1, raw == 2, raw == 3], [0, 1, 149], 255)
            assert (labels[0].numpy() == expected).all()
    assert len(ADE20KDataset.METAINFO['classes']) == 150


def check_pose(recipe: str, mode: str, samples: list[dict]) -> None:
    width, height = load(recipe).model.head.decoder.input_size
    assert {s['inputs'].shape for s in samples} == {(3, height, width)}
    assert len(samples) == 4  # two images of two people
    if mode != 'train':
        scores = [float(s['data_samples'].gt_instances.bbox_scores[0]) for s in samples]
        assert scores == pytest.approx([0.5, 0.6, 0.7, 0.8])  # of the file of person boxes
        return
    counts = [a['num_keypoints'] for a in people('train')['annotations'][:4]]
    for sample, count in zip(samples, counts):
        data = sample['data_samples']
        heatmaps = data.gt_fields.heatmaps.numpy()
        assert heatmaps.shape == (17, height // 4, width // 4)
        weights = data.gt_instance_labels.keypoint_weights.numpy()
        assert weights.shape == (1, 17)
        assert weights.sum() <= count
        drawn = [heatmap for heatmap, weight in zip(heatmaps, weights[0]) if weight]
        assert len(drawn) > 4
        for heatmap in drawn:  # a Gaussian of sigma 2 pixels around the keypoint
            y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
            assert heatmap[y, x] == 1
            beside = heatmap[y, x + 2 if x + 2 < heatmap.shape[1] else x - 2]
            assert beside == pytest.approx(np.exp(-0.5), abs=1e-3)


CHECKS = {
    'classification': check_classification,
    'detection': check_detection,
    'segmentation': check_segmentation,
    'pose': check_pose,
}


def test_data_that_is_missing_is_named(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load('detection/retinanet_scopevit-tiny_fpn_1x_coco.py')
    with pytest.raises(InputError, match='folder not found: data/coco'):
        check_dataset_files(cfg.train_dataloader.dataset, 'train_dataloader.dataset', 'mmdet')
