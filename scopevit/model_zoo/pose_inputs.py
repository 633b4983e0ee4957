"""What is fed to the models of mmpose: people that went through a config's own pipeline."""

import copy
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import DATASETS, TRANSFORMS

from scopevit.engine.walk import type_name

IMAGES = 2  # to train with, where each has one person; more take one, and so do predictions
PEOPLE = 2  # of an image, where a model finds them itself
SHORT = 100  # frames of a video, of which two fit into memory
SIZE = (256, 192)  # of the images before the pipeline (H, W), in pixels
# Steps that read a file, want other samples of the data set, or packages that are not the model's.
LEFT_OUT = ('LoadImage', 'Albumentation', 'Mosaic', 'YOLOXMixUp')
FROM_METAINFO = ('dataset_name', 'upper_body_ids', 'lower_body_ids', 'flip_pairs',
                 'dataset_keypoint_weights', 'flip_indices', 'skeleton_links')  # fmt: skip
CAMERA = {'w': 1000, 'h': 1000, 'f': [[1145.0], [1143.0]], 'c': [[512.0], [515.0]]}


def make_inputs(cfg: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a batch to train with and one to predict."""
    test = cfg.val_dataloader.dataset
    train = cfg.get('train_dataloader', cfg.val_dataloader).dataset
    number = 1 if finds_people(cfg, train) or number_of_frames(train) > SHORT else IMAGES
    return (
        make_batch(cfg, train, find_pipeline(train) or with_targets(cfg, test), number),
        make_batch(cfg, test, find_pipeline(test), 1),
    )


def find_pipeline(dataset: Any) -> list[Any]:
    """Returns the pipeline of a data set, or of the one that it wraps."""
    steps: list[Any] = dataset.get('pipeline') or dataset.get('dataset', {}).get('pipeline', [])
    return steps


def with_targets(cfg: Config, test: Any) -> list[Any]:
    """Returns the pipeline of predictions with targets, for recipes that do not train."""
    *steps, pack = find_pipeline(test)
    if any(type_name(step) == 'GenerateTarget' for step in steps):
        return [*steps, pack]
    return [*steps, dict(type='GenerateTarget', encoder=cfg.codec), pack]


def finds_people(cfg: Config, dataset: Any) -> bool:
    """Whether a model takes whole images and finds the people in them itself."""
    mode: str = dataset.get('data_mode') or cfg.get('data_mode', '')
    return mode == 'bottomup'


def number_of_frames(dataset: Any) -> int:
    """Returns how many frames a sample of a data set has."""
    frames: int = dataset.get('multiple_target') or dataset.get('seq_len', 1)
    return frames


def make_batch(cfg: Config, dataset: Any, steps: list[Any], number: int) -> dict[str, Any]:
    """Returns people after a pipeline, targets of the config's codec included."""
    pipeline = Compose([
        TRANSFORMS.build(step) for step in copy.deepcopy(steps) if type_name(step) not in LEFT_OUT
    ])  # fmt: skip
    metainfo = find_metainfo(dataset)
    samples = []
    for index in range(number):
        sample = make_sample(cfg, dataset, metainfo, np.random.default_rng(index))
        sample |= {key: copy.deepcopy(metainfo[key]) for key in FROM_METAINFO}
        samples.append(pipeline(sample | {'id': index, 'img_id': index}))
    return pseudo_collate(samples)


def find_metainfo(dataset: Any) -> dict[str, Any]:
    """Returns names, pairs and sigmas of the key points of a data set."""
    kind = DATASETS.get(dataset.type)
    if not dataset.get('metainfo') and not kind.METAINFO:
        DATASETS.build({**dataset, 'pipeline': [], 'lazy_init': True})  # chooses among several
    return parse_pose_metainfo(copy.deepcopy(dataset.get('metainfo') or kind.METAINFO))


def make_sample(
    cfg: Config, dataset: Any, metainfo: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
    """Returns what a data set of a config gives to its pipeline."""
    kind = type_name(cfg.model)
    if kind == 'PoseLifter':
        frames = number_of_frames(dataset)
        targets = dataset.get('multiple_target') or 1
        return make_motion(metainfo['num_keypoints'], frames, targets, rng)
    if type_name(cfg.model.get('head') or {'type': ''}) == 'InternetHead':
        return make_hands(metainfo['num_keypoints'], rng)
    people = PEOPLE if finds_people(cfg, dataset) else None
    return make_people(metainfo['num_keypoints'], people, rng)


def make_people(keypoints: int, people: int | None, rng: np.random.Generator) -> dict[str, Any]:
    """Returns an image of random colours with people side by side; None is one, and the image its.

    Returns:
        Among others 'img' (H, W, 3), 'bbox' (N, 4), 'keypoints' (N, K, 2) in pixels and
        'keypoints_visible' (N, K).
    """
    number = people or 1
    height, width = SIZE
    left = np.arange(number) * width / number
    corners = [left + 4, np.full(number, 4), left + width / number - 4, np.full(number, height - 4)]
    boxes = np.stack(corners, axis=1).astype(np.float32)
    places = rng.uniform(0.05, 0.95, (number, keypoints, 2))
    points = boxes[:, None, :2] + places * (boxes[:, None, 2:] - boxes[:, None, :2])
    each: dict[str, Any] = {'category_id': 1, 'iscrowd': 0, 'segmentation': None}
    if people is not None:
        each = {key: [value] * number for key, value in each.items()}
        each |= {'category_id': np.ones(number), 'invalid_segs': []}
    return each | {
        'img': rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8),
        'img_path': '',
        'img_shape': SIZE,
        'ori_shape': SIZE,
        'bbox': boxes,
        'bbox_score': np.ones(number, dtype=np.float32),
        'area': np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * 0.5,
        'num_keypoints': keypoints if people is None else [keypoints] * number,
        'keypoints': points.astype(np.float32),
        'keypoints_visible': np.ones((number, keypoints), dtype=np.float32),
        'raw_ann_info': {},
    }


def make_hands(keypoints: int, rng: np.random.Generator) -> dict[str, Any]:
    """Returns an image of two hands with depths in millimetres, as of InterHand2.6M."""
    sample = make_people(keypoints, None, rng)
    depths = rng.uniform(-100, 100, (1, keypoints, 1)).astype(np.float32)
    points = np.concatenate([sample['keypoints'], depths], axis=2)  # (1, K, 3)
    return sample | {
        'rotation': 0,
        'keypoints': points,
        'keypoints_cam': points + np.array([0, 0, 1000], dtype=np.float32),
        'hand_type': np.ones((1, 2), dtype=np.float32),
        'hand_type_valid': np.ones(1, dtype=np.float32),
        'rel_root_depth': np.float32(50),
        'rel_root_valid': np.float32(1),
        'abs_depth': [1000.0, 1050.0],
        'focal': np.array([1200, 1200], dtype=np.float32),
        'principal_pt': np.array([128, 96], dtype=np.float32),
        'dataset': 'interhand3d',
    }


def make_motion(
    keypoints: int, frames: int, targets: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Returns a person in front of a camera in some frames, as of Human3.6M, in metres.

    Returns:
        Among others 'keypoints' (T, K, 2) in pixels, 'keypoints_3d' (T, K, 3) and 'lifting_target',
        the poses to be found.
    """
    poses = rng.normal(0, 0.3, (frames, keypoints, 3)) + np.array([0, 0, 4])  # 4 m away
    focal, centre = np.array(CAMERA['f'])[:, 0], np.array(CAMERA['c'])[:, 0]
    points = poses[..., :2] / poses[..., 2:] * focal + centre
    visible = np.ones((frames, keypoints), dtype=np.float32)
    poses = poses.astype(np.float32)
    return {
        'num_keypoints': keypoints,
        'keypoints': points.astype(np.float32),
        'keypoints_visible': visible,
        'keypoints_3d': poses,
        'keypoints_3d_visible': visible,
        'scale': np.float32(1),
        'center': np.zeros((1, 2), dtype=np.float32),
        'category_id': 1,
        'iscrowd': 0,
        'img_paths': [''] * frames,
        'img_ids': list(range(frames)),
        'lifting_target': poses[-targets:],
        'lifting_target_visible': visible[-targets:],
        'target_img_path': [''] * targets,
        'factor': np.zeros(targets, dtype=np.float32),
        'camera_param': {
            key: np.array(value, dtype=np.float32) if isinstance(value, list) else value
            for key, value in CAMERA.items()
        },
    }
