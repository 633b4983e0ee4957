"""ScopeViT-tiny on ImageNet-1K at 256x256, 300 epochs, 8 GPUs x 128 images.

    python tools/train.py configs/classification/scopevit-tiny_8xb128_in1k.py

Source: the defaults of the authors' training script; 8 processes and the drop path rate are this
project's assumptions. Published top-1: 81.1 %. Here: not trained yet.
"""

_base_ = ['mmpretrain::_base_/datasets/imagenet_bs64_swin_256.py', '../_base_/in1k_300e.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(type='ScopeViT', arch='tiny', out_indices=(3,), drop_path_rate=0.1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=256,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        cal_acc=False,  # mixed labels have no accuracy
    ),
)

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
