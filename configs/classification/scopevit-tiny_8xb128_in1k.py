"""ScopeViT-tiny on ImageNet-1K at 256x256, 300 epochs, 8 GPUs x 128 images.

    python tools/train.py configs/classification/scopevit-tiny_8xb128_in1k.py

Source: the defaults of the authors' training script; 8 processes and the drop path rate are this
project's assumptions. Published top-1: 81.1 %. Here: not trained yet.
"""

_base_ = ['../_base_/in1k_256.py', '../_base_/linear_classifier.py']

model = dict(
    backbone=dict(type='ScopeViT', arch='tiny', out_indices=(3,), drop_path_rate=0.1),
    head=dict(in_channels=256),
)
