"""A recipe's network, and a batch of real pixels for it, of an odd size."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from mmpose.registry import KEYPOINT_CODECS
from mmpose.structures import PoseDataSample
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from recipes import ROOT
from torch import nn

HEIGHT, WIDTH = 69, 53


@dataclass(frozen=True)
class Network:
    """A recipe and its model, which the tests leave as it was but for its gradients."""

    recipe: str
    cfg: Config
    model: nn.Module


def read_image(height: int, width: int) -> torch.Tensor:
    """A person, (3, H, W), in BGR."""
    path = ROOT / 'data' / 'demo' / 'pose' / 'images' / 'val' / 'cam01_0075.jpg'
    image = cv2.resize(cv2.imread(str(path)), (width, height))
    return torch.from_numpy(image.transpose(2, 0, 1).copy())  # (H, W, 3) -> (3, H, W)


def classification_batch(network: Network) -> dict:
    # Some of timm's networks take images of their own size alone.
    pretrained = getattr(getattr(network.model, 'model', None), 'pretrained_cfg', {})
    size = pretrained.get('input_size')[1:] if pretrained.get('fixed_input_size') else None
    image = read_image(*(size or (HEIGHT, WIDTH)))
    samples = [DataSample().set_gt_label(label) for label in (3, 9)]
    return dict(inputs=[image, image.flip(2)], data_samples=samples)


def detection_batch(network: Network) -> dict:
    masks = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    masks[0, 14:60, 7:35] = 1
    masks[1, 20:41, 28:53] = 1
    instances = InstanceData(
        bboxes=torch.tensor([[7.0, 14.0, 35.0, 60.0], [28.0, 20.0, 53.0, 41.0]]),
        labels=torch.tensor([0, 79]),
        masks=BitmapMasks(masks, HEIGHT, WIDTH),
    )
    shape = (HEIGHT, WIDTH)
    meta = dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0))
    sample = DetDataSample(gt_instances=instances, metainfo=meta)
    return dict(inputs=[read_image(*shape)], data_samples=[sample])


def segmentation_batch(network: Network) -> dict:
    labels = torch.full((1, HEIGHT, WIDTH), 255)
    labels[:, 14:60, 7:35] = 149
    labels[:, :, 35:] = 0
    meta = dict(img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=meta) for _ in range(2)]
    image = read_image(HEIGHT, WIDTH)
    return dict(inputs=[image, image.flip(2)], data_samples=samples)


def pose_batch(network: Network) -> dict:
    decoder = dict(network.cfg.model.head.decoder)
    with torch.no_grad():
        last = network.model.backbone(torch.zeros(2, 3, HEIGHT, WIDTH))[-1]
    # Three deconvolutions double the last map.
    heatmap_size = (8 * last.shape[3], 8 * last.shape[2])
    decoder.update(input_size=(WIDTH, HEIGHT), heatmap_size=heatmap_size)
    # Keypoint k is at (3 k, 4 k).
    keypoints = np.arange(17, dtype=np.float32)[None, :, None] * [3, 4]
    codec = KEYPOINT_CODECS.build(decoder)
    targets = codec.encode(keypoints.astype(np.float32), np.ones((1, 17), np.float32))
    sample = PoseDataSample(
        gt_instances=InstanceData(
            bboxes=np.array([[0.0, 0.0, WIDTH, HEIGHT]]), bbox_scores=np.ones(1)
        ),
        gt_instance_labels=InstanceData(
            keypoint_weights=torch.from_numpy(targets['keypoint_weights'])
        ),
        gt_fields=PixelData(heatmaps=torch.from_numpy(targets['heatmaps'])),
        metainfo=dict(
            img_shape=(HEIGHT, WIDTH),
            input_size=(WIDTH, HEIGHT),
            input_center=np.array([WIDTH / 2, HEIGHT / 2]),
            input_scale=np.array([WIDTH, HEIGHT], np.float64),
            flip_indices=[0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15],
        ),
    )
    return dict(inputs=[read_image(HEIGHT, WIDTH)], data_samples=[sample])


BATCHES = {
    'classification': classification_batch,
    'detection': detection_batch,
    'segmentation': segmentation_batch,
    'pose': pose_batch,
}
