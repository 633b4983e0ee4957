# What `scopevit new segmentation` builds on: the recipe for ADE20K by epochs instead of iterations,
# labels from 0 on, from new weights on few images. Rate and clipping are those of configs/demo,
# which were tried on 48 tiles.
_base_ = '../../segmentation/fpn_scopevit-tiny_8xb4-80k_ade20k-512x512.py'

# The published 1e-6 needs hundreds of epochs to open the branches.
model = dict(backbone=dict(layer_scale_init_value=0.1))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(512, 512), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='scopevit/RandomCrop', crop_size=(512, 512), cat_max_ratio=0.95),
    dict(type='scopevit/RandomFlip', prob=0.5),
    dict(type='scopevit/PhotoMetricDistortion'),
    dict(type='scopevit/PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 512), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
# An incomplete batch may be of one sample, of which batch norm has no statistics.
train_dataloader = dict(
    drop_last=True,
    sampler=dict(type='DefaultSampler'),
    dataset=dict(_delete_=True, type='BaseSegDataset'),
)
val_dataloader = dict(dataset=dict(_delete_=True, type='BaseSegDataset'))
test_dataloader = val_dataloader
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=50)
optim_wrapper = dict(
    optimizer=dict(lr=2e-3, weight_decay=0.05), clip_grad=dict(_delete_=True, max_norm=5.0)
)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=1, max_keep_ckpts=1, save_best='mIoU', rule='greater'),
)
log_processor = dict(by_epoch=True)
randomness = dict(seed=0)
