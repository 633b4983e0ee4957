"""Cascade Mask R-CNN with ScopeViT-tiny on COCO, 1333x800, 12 epochs, 8 GPUs x 2 images.

    python tools/train.py configs/detection/cascade-mask-rcnn_scopevit-tiny_fpn_1x_coco.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the settings of mmdet's Cascade Mask R-CNN, with the optimizer of the authors' Mask R-CNN;
ours, not from the paper. Here: not trained yet.
"""

_base_ = 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='ScopeViT', arch='tiny', drop_path_rate=0.1),
    neck=dict(in_channels=[32, 64, 128, 256]),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'gamma': dict(decay_mult=0.0)}),
)
