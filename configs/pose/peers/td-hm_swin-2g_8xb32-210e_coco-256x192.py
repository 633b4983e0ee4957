_base_ = ['../td-hm_scopevit-tiny_8xb32-210e_coco-256x192.py', '../../_base_/backbones/swin-2g.py']
model = dict(
    backbone=dict(_base_.peer_backbone, _delete_=True, out_indices=(3,)),
    head=dict(in_channels=_base_.peer_channels[-1]),
)
