_base_ = [
    '../../_base_/in1k_224.py',
    '../../_base_/linear_classifier.py',
    '../../_base_/backbones/swin-2g.py',
]
model = dict(
    backbone=dict(_base_.peer_backbone, out_indices=(3,)),
    head=dict(in_channels=_base_.peer_channels[-1]),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)))
)
