# Boxes of COCO at 1333x800. The steps of `scopevit/` give mmdet's samples, faster.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='scopevit/LoadAnnotations', with_bbox=True),
    dict(type='scopevit/Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='scopevit/RandomFlip', prob=0.5),
    dict(type='scopevit/PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
