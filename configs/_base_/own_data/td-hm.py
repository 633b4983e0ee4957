# What `scopevit new pose` builds on: the recipe for COCO without what only its skeleton has (upper
# and lower half, boxes of a detector), from new weights on few images. Rate, decay and clipping are
# those of configs/demo, which were tried on 108 people.
_base_ = '../../pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192.py'

# The published 1e-6 needs hundreds of epochs to open the branches.
model = dict(backbone=dict(layer_scale_init_value=0.1))
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomBBoxTransform'),
    dict(type='TopdownAffine', input_size=(192, 256)),
    dict(type='PhotometricDistortion'),
    dict(type='GenerateTarget', encoder=_base_.codec),
    dict(type='PackPoseInputs'),
]
# An incomplete batch may be of one sample, of which batch norm has no statistics.
train_dataloader = dict(drop_last=True, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(bbox_file=None))  # the boxes of the annotations
test_dataloader = val_dataloader
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2e-3, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'gamma': dict(decay_mult=0.0)}),
    clip_grad=dict(max_norm=1.0),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
randomness = dict(seed=0)
