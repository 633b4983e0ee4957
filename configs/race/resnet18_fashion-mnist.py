# The other networks of timm inherit this file and give their name.
_base_ = './scopevit-xtiny_fashion-mnist.py'
model = dict(
    _delete_=True,
    type='TimmClassifier',
    model_name='resnet18',
    in_chans=1,
    num_classes=10,
    loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
)
