"""SegFormer's head with ScopeViT-tiny on ADE20K, 512x512, 160,000 iterations, 8 GPUs x 2 images.

    python tools/train.py configs/segmentation/segformer_scopevit-tiny_8xb2-160k_ade20k-512x512.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the settings of mmseg's SegFormer-B0; ours, not from the paper. Here: not trained yet.
"""

_base_ = 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='ScopeViT', arch='tiny', drop_path_rate=0.1),
    decode_head=dict(in_channels=[32, 64, 128, 256]),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        _delete_=True,  # it names norms by keys that miss some of ScopeViT's
        norm_decay_mult=0.0,
        custom_keys={'gamma': dict(decay_mult=0.0), 'head': dict(lr_mult=10.0)},
    )
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
