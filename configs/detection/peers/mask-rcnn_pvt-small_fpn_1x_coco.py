_base_ = ['../mask-rcnn_scopevit-tiny_fpn_1x_coco.py', '../../_base_/backbones/pvt-small.py']
model = dict(
    backbone=dict(_base_.peer_backbone, _delete_=True),
    neck=dict(in_channels=_base_.peer_channels),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(pos_embed=dict(decay_mult=0.0))))
