"""UperNet with ScopeViT-tiny on ADE20K, 512x512, 160,000 iterations, 8 GPUs x 2 images.

    python tools/train.py configs/segmentation/upernet_scopevit-tiny_8xb2-160k_ade20k-512x512.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the authors' settings, but for the auxiliary head of the small size, which has the 256
channels of its stage and not 320. Here: not trained yet.
"""

_base_ = [
    'mmseg::_base_/models/upernet_r50.py',
    '../_base_/ade20k.py',
    'mmseg::_base_/schedules/schedule_160k.py',
    'mmseg::_base_/default_runtime.py',
]
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(_delete_=True, type='ScopeViT', arch='tiny', drop_path_rate=0.1),
    decode_head=dict(in_channels=[32, 64, 128, 256], num_classes=150),
    auxiliary_head=dict(in_channels=128, num_classes=150),
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'gamma': dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=160000, by_epoch=False),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
