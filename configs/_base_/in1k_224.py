# The ImageNet-1K recipe at 224x224, for peers that were published at that size.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py', './in1k_300e.py']

test_pipeline = [
    dict(type='LoadImageFromFile'),
    # 224 pixels are 0.9 of the short side.
    dict(type='ResizeEdge', scale=248, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
