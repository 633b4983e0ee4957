"""The recipes' data sets on miniature trees of real images in the folders of the real data sets."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, Registry
from mmseg.datasets import ADE20KDataset
from recipes import MODERN, PEERS, PRIMITIVES, build, is_classifier, load, method
from trees import people, read_labels

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


# Height and width of an image of 440 x 360 in training and testing; None for random ones.
SIZES = {
    'cascade-mask-rcnn': ((978, 800), (978, 800)),
    'dino-4scale': (None, (978, 800)),
    'mask2former': (None, (978, 800)),
    'rtmdet': ((640, 640), (640, 640)),
    'rtmdet-ins': ((640, 640), (640, 640)),
    'rtmo': ((640, 640), (640, 640)),
    'rtmpose': ((256, 192), (256, 192)),
    'segformer': (None, (512, 512)),
    'mocov3': ((224, 224), None),
}


@pytest.mark.parametrize('recipe', MODERN)
def test_data_of_modern_heads_is_found_fits_and_loads(recipe, tree, monkeypatch):
    cfg = load(recipe)
    monkeypatch.chdir(tree)
    torch.manual_seed(0)
    np.random.seed(0)
    modes = [mode for mode in MODES if cfg.get(f'{mode}_dataloader')]
    assert modes == (['train'] if method(recipe) == 'mocov3' else list(MODES))
    model = build(cfg)
    check_files(cfg, *modes)
    assert [f for f in check_data(cfg).findings if f.level == 'error'] == []
    for mode in modes:
        dataset = build_in_scope(DATASETS, cfg[f'{mode}_dataloader'].dataset, cfg)
        check_dataset(dataset, model, mode)
        samples = [dataset[i] for i in range(len(dataset))]
        assert len(samples) == (4 if method(recipe) == 'rtmpose' else 2)  # people
        views = [view for s in samples for view in flat(s['inputs'])]
        size = SIZES[method(recipe)][mode != 'train']
        if recipe.startswith('segmentation/') and mode != 'train':
            size = (512, 512)  # the images of ADE20K are square here
        assert {tuple(view.shape[1:]) for view in views} == {size} or size is None
        if mode != 'train':
            evaluators = cfg[f'{mode}_evaluator']
            for one in evaluators if isinstance(evaluators, list) else [evaluators]:
                build_in_scope(METRICS, one, cfg)


def flat(inputs: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
    """The views of a self-supervised sample, or the only image of another."""
    return inputs if isinstance(inputs, list) else [inputs]


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
