_base_ = [
    '../../_base_/in1k_224.py',
    '../../_base_/linear_classifier.py',
    '../../_base_/backbones/pvt-small.py',
]
model = dict(
    backbone=dict(_base_.peer_backbone, out_indices=(3,)),
    head=dict(in_channels=_base_.peer_channels[-1]),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(pos_embed=dict(decay_mult=0.0))))
