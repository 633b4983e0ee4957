# The ImageNet-1K recipe at 256x256, that of ScopeViT and MobileViTv2.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs64_swin_256.py', './in1k_300e.py']

test_pipeline = [
    dict(type='LoadImageFromFile'),
    # 256 pixels are 0.9 of the short side.
    dict(type='ResizeEdge', scale=284, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=256),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
