"""DINO with ScopeViT-tiny on COCO, short sides of 480 to 800, 12 epochs, 8 GPUs x 2 images.

    python tools/train.py configs/detection/dino-4scale_scopevit-tiny_8xb2-12e_coco.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the settings of mmdet's DINO of 4 scales; ours, not from the paper. Here: not trained yet.
"""

_base_ = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True, type='ScopeViT', arch='tiny', out_indices=(1, 2, 3), drop_path_rate=0.1
    ),
    neck=dict(in_channels=[64, 128, 256]),
)
