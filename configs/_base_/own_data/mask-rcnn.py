# What `scopevit new detection` builds on for masks: the recipe for COCO, from new weights on few
# images. Norms in the pyramid, rate and clipping are those of configs/demo, which were tried on 48
# tiles.
_base_ = '../../detection/mask-rcnn_scopevit-tiny_fpn_1x_coco.py'

model = dict(
    # The published 1e-6 needs hundreds of epochs to open the branches.
    backbone=dict(layer_scale_init_value=0.1),
    neck=dict(norm_cfg=dict(type='BN')),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='scopevit/LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomResize',
        scale=(1333, 800),
        ratio_range=(0.8, 1.25),
        keep_ratio=True,
        resize_type='scopevit/Resize',
    ),
    dict(type='scopevit/RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='scopevit/PackDetInputs'),
]
train_dataloader = dict(dataset=dict(filter_cfg=dict(min_size=1), pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=5.0))
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=1, save_best='coco/bbox_mAP', rule='greater'),
)
randomness = dict(seed=0)
