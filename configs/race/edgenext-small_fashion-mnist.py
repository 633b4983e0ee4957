_base_ = './scopevit-xtiny_fashion-mnist.py'
model = dict(
    _delete_=True,
    type='TimmClassifier',
    model_name='edgenext_small',
    in_chans=1,
    num_classes=10,
    ls_init_value=0.1,
    loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
)
