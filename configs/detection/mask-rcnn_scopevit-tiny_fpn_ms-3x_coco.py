"""Mask R-CNN with ScopeViT-tiny on COCO, short sides of 480 to 800, 36 epochs, 8 GPUs x 2 images.

    python tools/train.py configs/detection/mask-rcnn_scopevit-tiny_fpn_ms-3x_coco.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the authors' 1x settings with the field's 3x schedule, steps at 27 and 33, and the scales of
mmdet's Swin recipe. Here: not trained yet.
"""

_base_ = './mask-rcnn_scopevit-tiny_fpn_1x_coco.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='scopevit/LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomChoiceResize',
        scales=[(1333, short) for short in range(480, 801, 32)],
        resize_type='scopevit/Resize',
        keep_ratio=True,
    ),
    dict(type='scopevit/RandomFlip', prob=0.5),
    dict(type='scopevit/PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
