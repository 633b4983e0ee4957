"""What is fed to the models of mmdet: its own test inputs, of the kinds that a model asks for."""

from typing import Any

import numpy as np
import torch
from mmdet.structures import ReIDDataSample
from mmdet.testing import demo_mm_inputs, demo_mm_proposals, demo_track_inputs
from mmengine.config import Config

from scopevit.engine.walk import type_name

SIZE = (128, 128)
IMAGES = 2
PERSON = (256, 128)  # which the pooling of the recipes is made for
FRAMES = 2
PROPOSALS = 20
MOST_BOXES = {'num': 64, 'max_per_img': 50}  # of samplers, and of proposals and detections
MOST_CLASSES = 10  # labels of the objects, of however many classes there are


def shrink(cfg: Config) -> None:
    """Has small images padded to their own size, and fewer boxes looked at, for the sake of time.

    The recipes pad to the size of their data, and take up to 2000 boxes an image.
    """
    preprocessor = cfg.model.get('data_preprocessor') or {}
    for augment in preprocessor.get('batch_augments') or []:
        for key in ('size', 'scale'):
            if key in augment:
                augment[key] = SIZE
    for key in ('train_cfg', 'test_cfg'):
        lower(cfg.model.get(key))


def lower(cfg: Any) -> None:
    """Lowers the numbers of boxes in a part of a config, in place."""
    if isinstance(cfg, dict):
        for key, most in MOST_BOXES.items():
            if isinstance(cfg.get(key), int):
                cfg[key] = min(most, cfg[key])
        cfg = list(cfg.values())
    for item in cfg if isinstance(cfg, (list, tuple)) else ():
        lower(item)


def make_inputs(cfg: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a batch to train with and one to predict."""
    preprocessor = cfg.model.get('data_preprocessor') or {}
    kind = type_name(preprocessor) if preprocessor.get('type') else ''
    if kind == 'TrackDataPreprocessor':
        frames = make_frames(cfg)
        return frames, frames
    if kind == 'ReIDDataPreprocessor':
        return make_crops(), make_crops()
    if kind == 'MultiBranchDataPreprocessor':
        return make_branches(cfg), make_images(cfg)
    return make_images(cfg), make_images(cfg, 1)


def make_images(cfg: Config, number: int = IMAGES) -> dict[str, Any]:
    """Returns images with boxes, masks and maps of classes, and proposals where nothing finds any.

    Returns:
        'inputs' (uint8, each (3, H, W)) and 'data_samples'.
    """
    size = image_size(cfg)
    classes = min(MOST_CLASSES, number_of_classes(cfg.model))
    batch = demo_mm_inputs(
        batch_size=number,
        image_shapes=[(3, *size)] * number,
        num_items=[3, 2][:number],
        num_classes=classes + 1,
        with_mask=True,
        with_semantic=True,
        use_box_type=True,
    )
    for sample in batch['data_samples']:
        sample.gt_instances.labels -= 1  # it begins at 1
        shapes = {'batch_input_shape': size, 'pad_shape': size}
        sample.set_metainfo({**shapes, 'homography_matrix': np.eye(3, dtype=np.float32)})
        sample.gt_sem_seg.sem_seg = sample.gt_sem_seg.sem_seg.long()
    if cfg.model.get('roi_head') and not cfg.model.get('rpn_head'):
        proposals = demo_mm_proposals([(3, *size)] * number, PROPOSALS)
        for sample, found in zip(batch['data_samples'], proposals):
            sample.proposals = found
    return batch


def make_frames(cfg: Config) -> dict[str, Any]:
    """Returns a video of some frames, the first of which is the one to learn from."""
    classes = number_of_classes(cfg.model.get('detector') or cfg.model)
    return demo_track_inputs(
        batch_size=1,
        num_frames=FRAMES,
        key_frames_inds=[0],
        image_shapes=[(3, *SIZE)],
        num_items=None,
        num_classes=min(MOST_CLASSES, classes),
        with_mask=True,
    )


def make_crops() -> dict[str, Any]:
    """Returns images of two people, two of each."""
    inputs = torch.randint(0, 256, (4, 3, *PERSON), dtype=torch.uint8)  # (N, C, H, W)
    samples = [ReIDDataSample().set_gt_label(label) for label in (0, 0, 1, 1)]
    return {'inputs': list(inputs), 'data_samples': samples}


def make_branches(cfg: Config) -> dict[str, Any]:
    """Returns labelled images, and others once for a teacher and once for a student."""
    branches = {name: make_images(cfg) for name in ('sup', 'unsup_teacher', 'unsup_student')}
    return {
        key: {name: batch[key] for name, batch in branches.items()}
        for key in ('inputs', 'data_samples')
    }


def image_size(cfg: Config) -> tuple[int, int]:
    """Returns the size (H, W) of the images: a small one, unless the anchors are made for one."""
    head = cfg.model.get('bbox_head') or {}
    anchors = head.get('anchor_generator') if isinstance(head, dict) else None
    size = (anchors or {}).get('input_size')
    return SIZE if size is None else (size, size)


def number_of_classes(model: Any) -> int:
    """Returns the smallest number of classes that a part of a model is told, 1 where none is."""
    found = list(values(model, ('num_classes', 'num_things_classes')))
    return min([number for number in found if isinstance(number, int)], default=1)


def values(cfg: Any, keys: tuple[str, ...]) -> list[Any]:
    """Returns what stands under some keys anywhere in a config."""
    if isinstance(cfg, dict):
        found = [cfg[key] for key in keys if key in cfg]
        return found + [value for item in cfg.values() for value in values(item, keys)]
    if isinstance(cfg, (list, tuple)):
        return [value for item in cfg for value in values(item, keys)]
    return []
