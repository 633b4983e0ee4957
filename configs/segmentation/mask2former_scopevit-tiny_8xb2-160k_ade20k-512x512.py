"""Mask2Former with ScopeViT-tiny on ADE20K, 512x512, 160,000 iterations, 8 GPUs x 2 images.

    python tools/train.py \
        configs/segmentation/mask2former_scopevit-tiny_8xb2-160k_ade20k-512x512.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the settings of mmseg's Mask2Former; ours, not from the paper. Here: not trained yet.
"""

_base_ = [
    'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py',
    '../_base_/slow_backbone.py',
]
custom_imports = dict(imports=['mmdet.models', 'scopevit'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='ScopeViT', arch='tiny', drop_path_rate=0.1),
    decode_head=dict(in_channels=[32, 64, 128, 256]),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.slow_backbone))
