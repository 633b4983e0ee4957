default_scope = 'mmpose'
data_root = '{{ fileDirname }}/pose_data'
codec = dict(type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=2)
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(type='PoseDataPreprocessor', bgr_to_rgb=True, **norm),
    backbone=dict(type='ScopeViT', arch=arch, out_indices=(3,)),
    head=dict(
        type='HeatmapHead',
        in_channels=32,
        out_channels=17,
        deconv_out_channels=(16, 16, 16),
        deconv_kernel_sizes=(4, 4, 4),
        loss=dict(type='KeypointMSELoss', use_target_weight=True),
        decoder=codec,
    ),
)
load = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='TopdownAffine', input_size=codec['input_size']),
]
dataset = dict(
    type='CocoDataset',
    data_root=data_root,
    data_mode='topdown',
    ann_file='people.json',
    data_prefix=dict(img='images/'),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(
        pipeline=[*load, dict(type='GenerateTarget', encoder=codec), dict(type='PackPoseInputs')],
        **dataset,
    ),
    sampler=train_sampler,
)
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(test_mode=True, pipeline=[*load, dict(type='PackPoseInputs')], **dataset),
    sampler=test_sampler,
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + '/people.json')
test_evaluator = val_evaluator
