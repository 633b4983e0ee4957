"""What lets the code of detectors be traced."""

from typing import Any

import pytest
import torch
from mmdet.models.dense_heads import RetinaHead, RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from scopevit.engine.model import build_model
from scopevit.errors import InputError
from scopevit.export.detection import DetectorGraph, traceable
from scopevit.export.graphs import Images
from scopevit.hub import get_config

CFG = ConfigDict(min_bbox_size=4, max_per_img=10, nms=dict(type='nms', iou_threshold=0.5))
LARGE = [[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]
WITH_SMALL = [[0.0, 0, 10, 10], [20, 0, 24, 10], [40, 0, 50, 3]]
SCORES = torch.tensor([0.7, 0.8, 0.9])


@pytest.mark.parametrize('head', [RPNHead, RetinaHead])
def test_small_boxes_in_other_images_than_the_traced(head: type[BaseDenseHead]) -> None:
    class Post(torch.nn.Module):
        def forward(self, boxes: Tensor) -> Tensor:
            results = InstanceData(bboxes=boxes, scores=SCORES, labels=torch.zeros(3).long())
            results.level_ids = torch.zeros(3).long()
            me: Any = head.__new__(head)
            found: Tensor = me._bbox_post_process(results, CFG).bboxes
            return found

    with traceable(torch.nn.Identity()):
        traced = torch.jit.trace(Post(), torch.tensor(LARGE), check_trace=False)
    # The best first; sides of 4 and 3 are not above 4.
    assert traced(torch.tensor(LARGE)).tolist() == LARGE[::-1]
    assert traced(torch.tensor(WITH_SMALL)).tolist() == WITH_SMALL[:1]


@pytest.mark.parametrize(
    ('recipe', 'name'),
    [
        ('mask2former_scopevit-tiny_8xb2-lsj-50e_coco', 'Mask2FormerHead'),
        ('rtmdet-ins_scopevit-tiny_8xb32-300e_coco', 'RTMDetInsSepBNHead'),
        ('cascade-mask-rcnn_scopevit-tiny_fpn_1x_coco', 'CascadeRoIHead'),
    ],
)
def test_masks_made_in_another_way_are_refused(recipe: str, name: str) -> None:
    model = build_model(get_config(recipe))
    inputs = Images(model.data_preprocessor, False)
    with pytest.raises(InputError, match=f'^{name} cannot be exported: StandardRoIHead, as of Mas'):
        DetectorGraph(model, inputs, (64, 64))
