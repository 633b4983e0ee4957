_base_ = '../scopevit-tiny_8xb128_in1k.py'
model = dict(
    _delete_=True,
    type='TimmClassifier',
    model_name='mobilevitv2_150',
    num_classes=1000,
    drop_path_rate=0.1,
    loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    train_cfg=_base_.model.train_cfg,
)
