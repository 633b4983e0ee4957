"""MoCo v3 of ScopeViT-tiny on ImageNet-1K without labels, 300 epochs, 16 GPUs x 256 images.

    python tools/train.py configs/classification/mocov3_scopevit-tiny_16xb256-300e_in1k.py

Its checkpoints go into any other recipe by --pretrained.

Source: the settings of mmpretrain's MoCo v3 with ViT-S; ours, not from the paper.
Here: not trained yet.
"""

_base_ = 'mmpretrain::mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k.py'
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='ScopeViT', arch='tiny', out_indices=(3,)),
    neck=dict(in_channels=256, with_avg_pool=True),
)
# mmengine would hand the function the scope that it notes in what it inherits.
train_dataloader = dict(collate_fn=dict(_delete_=True, type='default_collate'))
optim_wrapper = dict(
    _delete_=True,  # --amp brings mixed precision, where there is a GPU
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2.4e-3, weight_decay=0.1),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'gamma': dict(decay_mult=0.0)}),
)
find_unused_parameters = False
