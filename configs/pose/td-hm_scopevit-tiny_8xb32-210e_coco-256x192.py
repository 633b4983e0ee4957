"""Top-down pose with ScopeViT-tiny on COCO, 256x192, 210 epochs, 8 GPUs x 32 people.

    python tools/train.py configs/pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192.py \
        --pretrained work_dirs/scopevit-tiny_8xb128_in1k/epoch_300.pth

Source: the authors' settings. Here: not trained yet.
"""

_base_ = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py'
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True, type='ScopeViT', arch='tiny', out_indices=(3,), drop_path_rate=0.15
    ),
    head=dict(in_channels=256),
)
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=256)
