# What ScopeViT and its peers are trained with on ImageNet-1K, whatever their resolution: 300
# epochs, 8 GPUs x 128 images.
_base_ = [
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(
        _delete_=True,  # it names parameters of Swin
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,  # layer scale, and what else is a vector
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=5, end=300),
]
auto_scale_lr = dict(base_batch_size=1024)
