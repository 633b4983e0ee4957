"""RTMPose with ScopeViT-tiny on COCO, top-down, 256x192, 420 epochs, 8 GPUs x 128 people.

    python tools/train.py configs/pose/rtmpose_scopevit-tiny_8xb128-420e_coco-256x192.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the settings of mmpose's RTMPose-t, without the blur and the holes that it has from the
package albumentations; ours, not from the paper. Here: not trained yet.
"""

_base_ = 'mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192.py'
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True, type='ScopeViT', arch='tiny', out_indices=(3,), drop_path_rate=0.15
    ),
    head=dict(in_channels=256),
)
train_pipeline = [step for step in _base_.train_pipeline if step.type != 'Albumentation']
train_pipeline_stage2 = [
    step for step in _base_.train_pipeline_stage2 if step.type != 'Albumentation'
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
custom_hooks = [
    dict(type='mmdet.PipelineSwitchHook', switch_epoch=390, switch_pipeline=train_pipeline_stage2)
]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'gamma': dict(decay_mult=0.0)}))
