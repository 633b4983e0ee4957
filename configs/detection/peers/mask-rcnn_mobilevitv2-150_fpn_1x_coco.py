_base_ = ['../mask-rcnn_scopevit-tiny_fpn_1x_coco.py', '../../_base_/backbones/mobilevitv2-150.py']
model = dict(
    backbone=dict(_base_.peer_backbone, _delete_=True),
    neck=dict(in_channels=_base_.peer_channels),
)
