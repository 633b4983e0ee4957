"""Mask2Former with ScopeViT-tiny on COCO, instances, 1024x1024, 50 epochs, 8 GPUs x 2 images.

    python tools/train.py configs/detection/mask2former_scopevit-tiny_8xb2-lsj-50e_coco.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the settings of mmdet's Mask2Former; ours, not from the paper. The 50 epochs are 368,750
iterations. Here: not trained yet.
"""

_base_ = ['mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', '../_base_/slow_backbone.py']
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='ScopeViT', arch='tiny', drop_path_rate=0.1),
    panoptic_head=dict(in_channels=[32, 64, 128, 256]),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.slow_backbone))
