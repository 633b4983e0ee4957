_base_ = [
    '../fpn_scopevit-tiny_8xb4-80k_ade20k-512x512.py',
    '../../_base_/backbones/convnextv2-pico.py',
]
model = dict(
    backbone=dict(_base_.peer_backbone, _delete_=True),
    neck=dict(in_channels=_base_.peer_channels),
)
