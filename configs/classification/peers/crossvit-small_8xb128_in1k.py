# The network scales any image to its own 240x240.
_base_ = '../../_base_/in1k_224.py'
model = dict(
    type='TimmClassifier',
    model_name='crossvit_small_240',
    num_classes=1000,
    drop_path_rate=0.1,
    loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
)
