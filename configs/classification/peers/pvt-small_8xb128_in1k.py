_base_ = ['../../_base_/in1k_224.py', '../../_base_/backbones/pvt-small.py']
model = dict(
    type='ImageClassifier',
    backbone=dict(_base_.peer_backbone, out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        cal_acc=False,
    ),
)
