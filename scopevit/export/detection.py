"""Detectors as they are exported, and what their code needs to be traced."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from mmcv.ops import RoIAlign
from mmdet.models.dense_heads import RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi, get_box_wh
from torch import Tensor
from torch.nn import functional as F

from scopevit.errors import InputError
from scopevit.export.graphs import Graph, Images


class DetectorGraph(Graph):
    """Gives `boxes`, (D, 4), `scores`, (D,), `labels`, (D,), and of some `masks`, (D, H, W).

    It takes one image of one size; `batches.loop_over_images` makes it one of many. Boxes are left,
    top, right and bottom in its pixels, masks bool of its size; non-maximum suppression is done.
    `box_masks`, (D, h, w), are the probabilities that masks are made of: each fills its box.

    Args:
        model: Of mmdet.
        images: What makes its inputs.
        size: Height and width of the image.

    Raises:
        InputError: If it has two stages, or masks, in another way than Mask R-CNN.
    """

    takes_many = False

    def __init__(self, model: Any, images: Images, size: tuple[int, int]) -> None:
        super().__init__(model, images)
        self.size = size
        roi_head = getattr(model, 'roi_head', None)
        self.has_masks = bool(
            getattr(model, 'with_mask', False)
            or hasattr(model, 'panoptic_head')  # of Mask2Former
            or hasattr(getattr(model, 'bbox_head', None), 'mask_head')  # of RTMDet-Ins
        )
        self.is_two_stage = type(roi_head).__name__ == 'StandardRoIHead'
        if not self.is_two_stage and (self.has_masks or roi_head is not None):
            masks = getattr(model, 'panoptic_head', None) or getattr(model, 'bbox_head', None)
            name = type(roi_head or masks).__name__
            raise InputError(
                f'{name} cannot be exported: StandardRoIHead, as of Mask R-CNN, and detectors of '
                'one stage without masks can'
            )
        names = ('masks', 'box_masks') if self.has_masks else ()
        head = roi_head or getattr(model, 'bbox_head', None)
        limit = (getattr(head, 'test_cfg', None) or {}).get('max_per_img', -1)
        self.most = limit if limit > 0 else None
        self.outputs = ('boxes', 'scores', 'labels', *names)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.images(images)
        sample = DetDataSample(metainfo=self.meta())
        if not self.is_two_stage:
            found = self.model.predict(x, [sample], rescale=False)[0].pred_instances
            return found.bboxes, found.scores, found.labels
        maps, head = self.model.extract_feat(x), self.model.roi_head
        proposals = self.model.rpn_head.predict(maps, [sample], rescale=False)
        # The head's own predict_bbox splits the boxes by numbers, which a trace has for constants.
        rois = bbox2roi([proposals[0].bboxes])
        outputs = head._bbox_forward(maps, rois)
        (found,) = head.bbox_head.predict_by_feat(
            (rois,),
            (outputs['cls_score'],),
            (outputs['bbox_pred'],),
            [self.meta()],
            rcnn_test_cfg=head.test_cfg,
        )
        if not self.has_masks:
            return found.bboxes, found.scores, found.labels
        masks = head._mask_forward(maps, bbox2roi([found.bboxes]))['mask_preds'].sigmoid()
        if not head.mask_head.class_agnostic:  # (D, classes, h, w) -> (D, 1, h, w)
            index = found.labels[:, None, None, None].expand(-1, 1, *masks.shape[2:])
            masks = masks.gather(1, index)
        pasted = paste(masks, found.bboxes, self.size) >= head.test_cfg.mask_thr_binary
        return found.bboxes, found.scores, found.labels, pasted, masks[:, 0]

    def meta(self) -> dict[str, Any]:
        """Returns what mmdet's code asks of an image."""
        padded = tuple(-(-x // self.images.divisor) * self.images.divisor for x in self.size)
        return dict(
            img_shape=self.size, ori_shape=self.size, pad_shape=padded, batch_input_shape=padded,
            scale_factor=(1.0, 1.0),
        )  # fmt: skip


def paste(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Puts masks, (D, 1, h, w), where their boxes are: (D, H, W), as mmdet does."""
    left, top, right, bottom = boxes.split(1, dim=1)  # (D, 1) each
    y, x = (torch.arange(side, device=boxes.device) + 0.5 for side in size)
    # Beyond 1 a mask is empty: clamped, boxes of no width give the same in every runtime.
    y = ((y - top) / (bottom - top).clamp(min=1e-6) * 2 - 1).clamp(-3, 3)
    x = ((x - left) / (right - left).clamp(min=1e-6) * 2 - 1).clamp(-3, 3)
    shape = -1, size[0], size[1]
    # x: (D, W) -> (D, H, W), y: (D, H) -> (D, H, W)
    grid = torch.stack([x[:, None].expand(*shape), y[:, :, None].expand(*shape)], dim=3)
    return F.grid_sample(masks, grid, align_corners=False)[:, 0]


def extract(
    self: SingleRoIExtractor,
    feats: Sequence[Tensor],
    rois: Tensor,
    roi_scale_factor: float | None = None,
) -> Tensor:
    """Does what the forward of mmdet's extractor does, whatever the levels of the boxes.

    That one asks whether there are boxes on a level, which a trace takes for a constant.
    """
    levels = self.map_roi_levels(rois, len(feats))
    if roi_scale_factor is not None:
        rois = self.roi_rescale(rois, roi_scale_factor)
    places = [(levels == i).nonzero().squeeze(1) for i in range(len(feats))]
    parts = [layer(x, rois[place]) for layer, x, place in zip(self.roi_layers, feats, places)]
    return torch.cat(parts)[torch.cat(places).argsort()]


def always_filtered(post_process: Callable[..., Any]) -> Callable[..., Any]:
    """Returns mmdet's `_bbox_post_process` of a head, which leaves small boxes out in any case.

    That one asks whether there are any, which a trace takes for a constant: where the traced image
    has none, those of other images would stay.
    """

    def call(self: Any, results: Any, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        least = cfg.get('min_bbox_size', -1)
        if least >= 0:
            width, height = get_box_wh(results.bboxes)
            results = results[((width > least) & (height > least)).nonzero().squeeze(1)]
        return post_process(self, results, cfg, *args, **kwargs)

    return call


@contextmanager
def traceable(model: torch.nn.Module) -> Iterator[None]:
    """Lets a detector's code be traced for ONNX.

    Symptom: mmdet 3.3 asks `torch.onnx.is_in_onnx_export()` and imports `mmdet.core` then, which
    is gone since 3.0; mmcv 2.1 writes its RoIAlign as an operator that no runtime has.
    Way out: the answer is False, and RoIAlign is torchvision's.
    Delete when: mmdet has no such branches, or torch.onnx.export(dynamo=True) takes detectors.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, RoIAlign)]
    before = [layer.use_torchvision for layer in layers]
    # The older exporter has no `unfold`, by which ScopeViT splits maps of known sizes.
    unknown = [
        patch(f'scopevit.models.{name}.is_known', return_value=False)
        for name in ('cpu', 'scopevit')
    ]
    filters = [
        patch.object(head, '_bbox_post_process', always_filtered(head._bbox_post_process))
        for head in (BaseDenseHead, RPNHead)
    ]
    extractor = patch.object(SingleRoIExtractor, 'forward', extract)
    answer = patch('torch.onnx.is_in_onnx_export', return_value=False)
    with ExitStack() as stack:
        patches: list[Any] = [answer, extractor, *filters, *unknown]
        for each in patches:
            stack.enter_context(each)
        try:
            for layer in layers:
                layer.use_torchvision = True
            yield
        finally:
            for layer, value in zip(layers, before):
                layer.use_torchvision = value
