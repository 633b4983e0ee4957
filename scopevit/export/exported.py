"""Exported files in the place of a checkpoint's network, for `predict` and `test`."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn
from torch.nn import functional as F

from scopevit.errors import InputError
from scopevit.export.preprocessing import put_into_corner
from scopevit.export.runtimes import Session, open_session, run, split
from scopevit.inference.stored_config import parse_config

# What the file beside an export must have for it to be used here.
NEEDED = {
    'task': str,
    'config': str,
    'input': dict,
    'outputs': list,
    'classes': list,
    'settings': dict,
    'sha256': dict,
}
# What it must say of what stands between outputs and answers.
SETTINGS = {
    'classification': ('is_multi_label',),
    'segmentation': ('divisor', 'align_corners'),
    'detection': ('fill',),
    'pose': (),
}


def description_of(path: Path) -> Path:
    """Returns the JSON file beside an export; those of two formats have names of their own."""
    return path.with_name(f'{path.name}.json')


def hash_files(path: Path) -> dict[str, str]:
    """Returns the SHA-256 of an exported file and, of OpenVINO's, of its weights, by ending."""
    files = [path.with_suffix('.bin'), path] if path.suffix == '.xml' else [path]
    return {file.suffix: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def read_description(path: Path) -> dict[str, Any]:
    """Reads the JSON file beside an export, and checks that the export is the one it is about.

    Raises:
        InputError: If a file is missing, damaged or not ours.
    """
    beside = description_of(path)
    for file in (path, beside, *([path.with_suffix('.bin')] if path.suffix == '.xml' else [])):
        if not file.is_file():
            hint = f'; scopevit export writes it beside {path.name}' if file == beside else ''
            raise InputError(f'no such file: {file}{hint}')
    try:
        about = json.loads(beside.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise InputError(f'{beside} is no JSON: {error}') from error
    content = about if isinstance(about, dict) else {}
    missing = [key for key, kind in NEEDED.items() if not isinstance(content.get(key), kind)]
    if not missing:
        shape, settings = content['input'].get('shape'), content['settings']
        needed = ('pipeline', *SETTINGS.get(content['task'], ()))
        missing = [f'settings.{key}' for key in needed if settings.get(key) is None]
        missing += ['input.shape'] * (not isinstance(shape, list) or len(shape) != 4)
        missing += ['outputs'] * any(not isinstance(name, str) for name in content['outputs'])
    if missing:
        raise InputError(
            f'{beside} is not of scopevit export: no {", ".join(missing)}, or of another type'
        )
    if hash_files(path) != about['sha256']:
        raise InputError(f'{path} is damaged, or not the file that {beside.name} is about (sha256)')
    return about


def check_task(about: dict[str, Any], path: str | Path, task: str, source: str) -> None:
    """Raises an InputError where a config, `source` in messages, is for another task."""
    if about['task'] != task:
        raise InputError(f'{path} is for {about["task"]}, and {source} for {task}')


def as_checkpoint(about: dict[str, Any], path: Path) -> dict[str, Any]:
    """Returns what a checkpoint has under `meta`, of the file beside an export.

    Raises:
        InputError: If its config is none.
    """
    values = parse_config(about['config'], str(description_of(path)))
    return {'meta': {'cfg': about['config'], 'dataset_meta': values.get('dataset_meta')}}


class Head(nn.Module):
    """What is left of a head: what checks of data sets and the libraries' code ask for.

    Args:
        num_classes: None where it is not known.
        threshold: That of masks, of two classes, or of many labels; None where there is none.
    """

    def __init__(self, num_classes: int | None, threshold: float | None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.threshold = threshold


@MODELS.register_module()
class ExportedModel(BaseModel):
    """A network of a runtime that predicts as the one of a library does, in its data samples.

    Args:
        path: An .onnx or .xml of `scopevit export`, with the .json beside it.

    Attributes:
        about: What is in the .json.
        decode_head: What is left of the head, by the name that mmseg's code asks for.

    Raises:
        InputError: If a file is missing, damaged or not ours.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self.about = about = read_description(self.path)
        if about['task'] == 'backbone':
            raise InputError(f'{path} is a backbone alone, which gives maps and no answers')
        if about['task'] not in SETTINGS:
            known = ', '.join(SETTINGS)
            raise InputError(f'{path} is for {about["task"]!r}, which is none of {known}')
        settings = about['settings']
        has_classes = about['classes'] and about['task'] != 'pose'
        count = len(about['classes']) if has_classes else None
        self.decode_head = Head(count, settings.get('threshold'))
        self.align_corners = settings.get('align_corners')  # mmseg's code asks for it
        self.test_cfg: dict[str, Any] = {}  # as mmpose's does
        self.image_channels: int = about['input']['shape'][3]
        self._outputs = outputs_of(about)
        self._session: Session = open_session(self.path, self._outputs)

    def forward(self, inputs: Any, data_samples: Any, mode: str = 'predict') -> list[Any]:
        """Returns data samples with predictions.

        Args:
            inputs: Images of a test pipeline: tensors (C, H, W) of uint8, in a list or one tensor.
            data_samples: Theirs.
            mode: 'predict' alone.

        Raises:
            InputError: If the file takes images of another size.
        """
        if mode != 'predict':
            raise InputError(f'{self.path}: an exported network predicts alone, it cannot {mode}')
        images = [self._as_image(one) for one in inputs]
        sized = [self._of_size(image) for image in images]
        takes_many = self.about['input']['shape'][0] == 'batch'
        if takes_many and len({image.shape for image in sized}) == 1:
            answers = self._run(np.stack(sized))
        else:
            answers = [answer for image in sized for answer in self._run(image[None])]
        add = getattr(self, f'_add_{self.about["task"]}')
        return [add(*each) for each in zip(answers, data_samples, images)]

    def _as_image(self, tensor: torch.Tensor) -> np.ndarray:
        """Returns (H, W, C) RGB of (C, H, W) as the pipeline has it."""
        image = tensor.cpu().numpy().transpose(1, 2, 0)
        is_turned = image.shape[2] == 3 and self.about['settings']['pipeline'] == 'BGR'
        return np.ascontiguousarray(image[..., ::-1] if is_turned else image)

    def _of_size(self, image: np.ndarray) -> np.ndarray:
        """Returns an image as the file takes it."""
        if self.about['task'] == 'detection':
            return self._padded(image)
        size = self.about['input']['shape'][1:3]
        if size != ['height', 'width'] and size != list(image.shape[:2]):
            raise InputError(
                f'{self.path} takes images of {size[0]}x{size[1]} (height x width), and the test '
                f'pipeline gives {image.shape[0]}x{image.shape[1]}: export with --dynamic, or '
                'with this --shape'
            )
        return image

    def _run(self, batch: np.ndarray) -> list[dict[str, np.ndarray]]:
        return split(run(str(self.path), self._session, batch))

    def _padded(self, image: np.ndarray) -> np.ndarray:
        """Puts an image into the upper left corner of one of the size that the file takes."""
        height, width = self.about['input']['shape'][1:3]
        if image.shape[0] > height or image.shape[1] > width:
            raise InputError(
                f'{self.path} takes images of at most {height}x{width} (height x width), and the '
                f'test pipeline gives {image.shape[0]}x{image.shape[1]}: export with a --shape '
                'that holds both'
            )
        return put_into_corner(image, (height, width), self.about['settings']['fill'])

    def _add_classification(self, found: dict[str, np.ndarray], sample: Any, image: Any) -> Any:
        scores = torch.from_numpy(found['probabilities'])
        settings, threshold = self.about['settings'], self.decode_head.threshold
        if not settings['is_multi_label']:
            label = scores.argmax(dim=0, keepdim=True)
        elif threshold is not None:
            label = torch.where(scores >= threshold)[0]
        else:
            label = scores.topk(settings['top_k'])[1]
        return sample.set_pred_score(scores).set_pred_label(label)

    def _add_segmentation(self, found: dict[str, np.ndarray], sample: Any, image: Any) -> Any:
        from mmseg.models.segmentors import BaseSegmentor

        logits = torch.from_numpy(found['logits'])[None]
        divisor = self.about['settings']['divisor']
        height, width = image.shape[:2]
        padded = [-(-side // divisor) * divisor for side in (height, width)]
        if list(logits.shape[2:]) != padded:
            logits = F.interpolate(
                logits, padded, mode='bilinear', align_corners=self.align_corners
            )
        logits = logits[..., :height, :width]
        return BaseSegmentor.postprocess_result(self, logits, [sample])[0]

    def _add_pose(self, found: dict[str, np.ndarray], sample: Any, image: Any) -> Any:
        from mmengine.structures import InstanceData
        from mmpose.models.pose_estimators import TopdownPoseEstimator

        instance = InstanceData(
            keypoints=found['keypoints'][None].astype(np.float64),
            keypoint_scores=found['scores'][None],
        )
        return TopdownPoseEstimator.add_pred_to_datasample(self, [instance], None, [sample])[0]

    def _add_detection(self, found: dict[str, np.ndarray], sample: Any, image: Any) -> Any:
        from mmengine.structures import InstanceData

        boxes = torch.from_numpy(found['boxes'])
        height, width = image.shape[:2]
        boxes = torch.minimum(boxes, boxes.new_tensor([width, height, width, height]))
        boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
        instances = InstanceData(
            bboxes=boxes.clone(),
            scores=torch.from_numpy(found['scores']),
            labels=torch.from_numpy(found['labels']),
        )
        if 'box_masks' in found:
            instances.masks = self._paste(found['box_masks'], boxes, sample)
        sample.pred_instances = instances
        return sample

    def _paste(self, masks: np.ndarray, boxes: torch.Tensor, sample: Any) -> torch.Tensor:
        """Puts masks, (D, h, w), into their boxes in an image: (D, H, W) of bool."""
        from mmdet.models.roi_heads.mask_heads import FCNMaskHead

        if not len(boxes):
            return torch.zeros(0, *sample.ori_shape, dtype=torch.bool)
        pasted: torch.Tensor = FCNMaskHead._predict_by_feat_single(
            SimpleNamespace(class_agnostic=True),
            masks[:, None],
            boxes,
            None,
            dict(scale_factor=(1.0, 1.0), ori_shape=sample.ori_shape),
            SimpleNamespace(mask_thr_binary=self.decode_head.threshold),
            activate_map=True,  # they are probabilities
        )
        return pasted


def outputs_of(about: dict[str, Any]) -> tuple[str, ...]:
    """Returns the outputs that samples are made of: not those in pixels of the network's images."""
    replaced = {'masks': 'box_masks', 'classes': 'logits'}
    return tuple(name for name in about['outputs'] if replaced.get(name) not in about['outputs'])
