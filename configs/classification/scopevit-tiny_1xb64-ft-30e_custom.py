"""Fine-tunes ScopeViT-tiny on any folder of images, one sub-folder a class, for 30 epochs.

    data/custom/train/<class>/*.jpg, data/custom/val/<class>/*.jpg

    python tools/train.py configs/classification/scopevit-tiny_1xb64-ft-30e_custom.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth \
        --cfg-options model.head.num_classes=NUMBER

Source: this project's choice: a tenth of the rate of training from nothing, no mixed images, and
crops that keep most of the image. What it reaches depends on the images; not measured yet.
"""

_base_ = './scopevit-tiny_8xb128_in1k.py'

model = dict(head=dict(num_classes=10), train_cfg=None)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='scopevit/RandomResizedCrop',
        scale=256,
        crop_ratio_range=(0.35, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='scopevit/RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='scopevit/PackInputs'),
]
dataset = dict(type='CustomDataset', data_root='data/custom', with_label=True)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(_delete_=True, data_prefix='train', pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    batch_size=64,
    dataset=dict(_delete_=True, data_prefix='val', pipeline=_base_.test_pipeline, **dataset),
)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))  # there may be fewer than five classes
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin=1,
        end=30,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=30)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best='auto'))
auto_scale_lr = dict(base_batch_size=64)
