"""RetinaNet with ScopeViT-tiny on COCO, 1333x800, 12 epochs, 8 GPUs x 2 images.

    python tools/train.py configs/detection/retinanet_scopevit-tiny_fpn_1x_coco.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the authors' settings. Here: not trained yet.
"""

_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='ScopeViT', arch='tiny', drop_path_rate=0.1),
    neck=dict(in_channels=[32, 64, 128, 256]),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'gamma': dict(decay_mult=0.0)}),
)
