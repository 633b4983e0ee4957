# ADE20K as mmseg crops it. The steps of `scopevit/` give its samples, faster.
_base_ = 'mmseg::_base_/datasets/ade20k.py'
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

crop_size = (512, 512)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='scopevit/RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='scopevit/RandomFlip', prob=0.5),
    dict(type='scopevit/PhotoMetricDistortion'),
    dict(type='scopevit/PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
