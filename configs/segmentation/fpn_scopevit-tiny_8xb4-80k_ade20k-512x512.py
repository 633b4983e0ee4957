"""Semantic FPN with ScopeViT-tiny on ADE20K, 512x512, 80,000 iterations, 8 GPUs x 4 images.

    python tools/train.py configs/segmentation/fpn_scopevit-tiny_8xb4-80k_ade20k-512x512.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the authors' settings. Here: not trained yet.
"""

_base_ = [
    'mmseg::_base_/models/fpn_r50.py',
    '../_base_/ade20k.py',
    'mmseg::_base_/schedules/schedule_80k.py',
    'mmseg::_base_/default_runtime.py',
]
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(_delete_=True, type='ScopeViT', arch='tiny', drop_path_rate=0.1),
    neck=dict(in_channels=[32, 64, 128, 256]),
    decode_head=dict(num_classes=150),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=2e-4, weight_decay=1e-4))
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=80000, by_epoch=False)]
auto_scale_lr = dict(enable=False, base_batch_size=32)
