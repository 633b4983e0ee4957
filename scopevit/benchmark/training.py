"""The forward pass of a training step up to a loss, on images alone, to count what it takes.

What depends on the annotations (which proposals are kept, which anchors are assigned, accuracies)
is left out, and so are losses of little memory. Everything runs on tensors without numbers.
"""

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scopevit.benchmark.memory import tensors_of
from scopevit.benchmark.networks import spread_boxes, stages


def training_loss(model: Any, images: Tensor) -> Tensor:
    """Returns one number that depends on all a model of the four libraries computes in training.

    Args:
        model: As its library built it, in training mode.
        images: (N, C, H, W).
    """
    if hasattr(model, 'decode_head'):
        return segmentation_loss(model, images)
    if getattr(model, 'with_roi_head', False):
        return two_stage_loss(model, images)
    bbox_head = getattr(model, 'bbox_head', None)
    if type(getattr(bbox_head, 'loss_cls', None)).__name__ == 'FocalLoss':
        return dense_loss(model, images)
    return total(model(images, None, mode='tensor'))


def total(outputs: object) -> Tensor:
    """Returns the sum of all numbers of all tensors."""
    return reduce(torch.add, [out.float().sum() for out in tensors_of(outputs)])


def segmentation_loss(model: Any, images: Tensor) -> Tensor:
    """The heads of a segmentor and their losses, on logits of the images' size."""
    maps = model.extract_feat(images)
    auxiliary = model.auxiliary_head if model.with_auxiliary_head else []
    auxiliary = auxiliary if isinstance(auxiliary, (list, nn.ModuleList)) else [auxiliary]
    shape = len(images), *images.shape[2:]
    labels = torch.zeros(shape, dtype=torch.int64, device=images.device)

    def head_loss(head: Any) -> Tensor:
        logits = head(maps)  # (N, classes, h, w) -> (N, classes, H, W)
        logits = F.interpolate(logits, shape[1:], mode='bilinear', align_corners=head.align_corners)
        return head.loss_decode(logits, labels, ignore_index=head.ignore_index)

    return reduce(torch.add, map(head_loss, [model.decode_head, *auxiliary]))


def dense_loss(model: Any, images: Tensor) -> Tensor:
    """A one-stage detector, and its focal loss as on a GPU: it has many times the logits of boxes.

    (`FocalLoss` itself asks whether there is a GPU and takes more memory elsewhere.)
    """
    from mmdet.models.losses.focal_loss import sigmoid_focal_loss  # slow to import

    maps = model.extract_feat(images)
    scores, *others = model.bbox_head(maps)
    loss = total(others)
    for score in scores:
        # (N, A * classes, h, w) -> (N, h, w, A * classes) -> (N * h * w * A, classes)
        logits = score.permute(0, 2, 3, 1).reshape(-1, model.bbox_head.cls_out_channels)
        labels = torch.zeros(len(logits), dtype=torch.int64, device=images.device)
        weights = torch.ones(len(logits), device=images.device)
        loss = loss + sigmoid_focal_loss(logits, labels, weights, avg_factor=1.0)
    return loss


def two_stage_loss(model: Any, images: Tensor) -> Tensor:
    """A two-stage detector whose heads see as many boxes as their samplers choose at most.

    Of a cascade, every stage has a sampler, extractors and heads of its own.
    """
    maps, roi_head = model.extract_feat(images), model.roi_head
    settings = model.train_cfg['rcnn']
    samplers = [one['sampler'] for one in (settings if isinstance(settings, list) else [settings])]
    loss = total(model.rpn_head(maps))
    boxed = stages(roi_head.bbox_roi_extractor, roi_head.bbox_head)
    for sampler, (extractor, head) in zip(samplers, boxed):
        loss = loss + total(head(pool_evenly(extractor, maps, images, sampler['num'])))
    if roi_head.with_mask:
        masked = stages(roi_head.mask_roi_extractor, roi_head.mask_head)
        for sampler, (extractor, head) in zip(samplers, masked):
            positives = int(sampler['num'] * sampler['pos_fraction'])
            # The mask of a box's own class has a loss alone.
            masks = head(pool_evenly(extractor, maps, images, positives))
            loss = loss + total(masks[:, :1])
    return loss


def pool_evenly(extractor: Any, maps: tuple[Tensor, ...], images: Tensor, count: int) -> Tensor:
    """Pools boxes as mmdet's `SingleRoIExtractor`, as many from each map: sizes are not known.

    Args:
        extractor: Its layers and their settings.
        maps: Of the images.
        images: (N, C, H, W).
        count: Boxes an image.

    Returns:
        (N * count, C, size, size).
    """
    boxes = spread_boxes(images, count).type_as(maps[0])
    size = extractor.roi_layers[0].output_size
    pooled = maps[0].new_zeros(len(boxes), extractor.out_channels, *size)
    every = torch.arange(len(boxes), device=images.device)
    layers = extractor.roi_layers
    for layer, features, chosen in zip(layers, maps, every.tensor_split(len(layers))):
        pooled[chosen] = layer(features, boxes[chosen])
    return pooled
