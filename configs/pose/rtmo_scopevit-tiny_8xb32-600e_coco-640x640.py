"""RTMO, one-stage pose, with ScopeViT-tiny on COCO, 640x640, 600 epochs, 8 GPUs x 32 images.

    python tools/train.py configs/pose/rtmo_scopevit-tiny_8xb32-600e_coco-640x640.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the settings of mmpose's RTMO-s; ours, not from the paper. Here: not trained yet.
"""

_base_ = 'mmpose::body_2d_keypoint/rtmo/coco/rtmo-s_8xb32-600e_coco-640x640.py'
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    init_cfg=None,  # it would draw the backbone's weights anew, too
    # What the backbone's weights expect; RTMO's own takes pixels as they are.
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        _delete_=True, type='ScopeViT', arch='tiny', out_indices=(1, 2, 3), drop_path_rate=0.15
    ),
    neck=dict(in_channels=[64, 128, 256]),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'gamma': dict(decay_mult=0.0)}))
