"""RTMDet with ScopeViT-tiny on COCO, 640x640, 300 epochs, 8 GPUs x 32 images.

    python tools/train.py configs/detection/rtmdet_scopevit-tiny_8xb32-300e_coco.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the settings of mmdet's RTMDet-tiny, with the learning rate of its RTMDet with Swin in
proportion to the batch; ours, not from the paper. Here: not trained yet.
"""

_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(
        # What the backbone's weights expect; RTMDet's own takes blue, green, red.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,  # its neck doubles the sides of maps
    ),
    backbone=dict(
        _delete_=True, type='ScopeViT', arch='tiny', out_indices=(1, 2, 3), drop_path_rate=0.1
    ),
    neck=dict(in_channels=[64, 128, 256]),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-3), paramwise_cfg=dict(custom_keys={'gamma': dict(decay_mult=0.0)})
)
param_scheduler = _base_.param_scheduler
param_scheduler[1].eta_min = 1e-4
auto_scale_lr = dict(base_batch_size=256)
