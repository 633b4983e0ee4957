"""Pictures of samples: pixels, annotations and legends."""

import numpy as np
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample

from scopevit.analysis.pictures import ImageFormat, draw_legend, mixed_names, rescale_annotations


def test_undoes_normalisations_in_reverse():
    def per_channel(*values):
        return torch.tensor(values).view(-1, 1, 1)

    steps = (
        (per_channel(10.0, 20.0, 30.0), per_channel(2.0, 2.0, 2.0)),
        (per_channel(1.0, 1.0, 1.0), per_channel(5.0, 5.0, 5.0)),
    )
    # ((14, 24, 34) - (10, 20, 30)) / 2 = 2, (2 - 1) / 5 = 0.2
    image = torch.full((3, 1, 1), 0.2)
    assert ImageFormat(True, steps, False).to_pixels(image).tolist() == [[[14, 24, 34]]]
    assert ImageFormat(False, steps, False).to_pixels(image).tolist() == [[[34, 24, 14]]]


def test_gray_and_unknown_scales_can_be_shown():
    plain = ImageFormat(True, (), False)
    assert plain.to_pixels(torch.tensor([[[7, 9]]], dtype=torch.uint8)).tolist() == [
        [[7, 7, 7], [9, 9, 9]]
    ]
    # As ToTensor scales them, for example.
    assert plain.to_pixels(torch.tensor([[[0.0, 1.0]]])).tolist() == [[[0] * 3, [255] * 3]]
    # A dark image of bytes stays dark.
    assert plain.to_pixels(torch.ones(1, 1, 1, dtype=torch.uint8)).max() == 1


def test_annotations_follow_the_image():
    sample = DataSample(
        gt_instances=InstanceData(
            bboxes=torch.tensor([[1.0, 2.0, 3.0, 4.0]]),
            masks=BitmapMasks([np.eye(2, dtype=np.uint8)], 2, 2),
            keypoints=np.array([[[0.0, 1.0]]]),
            keypoints_visible=np.array([[[1.0, 0.5]]]),
        ),
        gt_sem_seg=PixelData(data=torch.tensor([[[1, 2]]])),
    )
    rescale_annotations(sample, 2, 3)
    instances = sample.gt_instances
    assert instances.bboxes.tolist() == [[2, 6, 6, 12]]
    # The middle of pixel 0 is the middle of pixels 0 and 1, that of pixel 1 of 3, 4 and 5.
    assert instances.keypoints.tolist() == [[[0.5, 4]]]
    assert instances.keypoints_visible.tolist() == [[1]]
    assert instances.masks.masks[0].tolist() == [[1, 1, 0, 0]] * 3 + [[0, 0, 1, 1]] * 3
    assert sample.gt_sem_seg.data.tolist() == [[[1, 1, 2, 2]] * 3]


def test_mixed_image_has_the_names_of_its_classes():
    sample = DataSample().set_gt_score(torch.tensor([0.0, 0.7, 0.3])).set_gt_label(1)
    assert mixed_names(sample, ['a', 'b', 'c']) == ['a: 0.00', 'b: 0.70', 'c: 0.30']
    assert sample.gt_label.tolist() == [1, 2]
    assert mixed_names(DataSample().set_gt_score(torch.tensor([0.0, 1.0])), ['a', 'b']) is None


def test_legend_names_the_classes_of_the_map():
    metainfo = dict(classes=('a', 'b', 'c'), palette=[(9, 9, 9), (1, 2, 3), (4, 5, 6)])
    legend = draw_legend(torch.tensor([[[2, 0, 255]]]), metainfo, 200)
    # One a row: its patch begins 4 pixels from the left and the top.
    assert legend.shape == (48, 200, 3)
    assert legend[12, 12].tolist() == [9, 9, 9]
    assert legend[36, 12].tolist() == [4, 5, 6]
