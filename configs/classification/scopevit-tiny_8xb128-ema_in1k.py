"""ScopeViT-tiny on ImageNet-1K with a moving average of the weights, which is what is tested.

    python tools/train.py configs/classification/scopevit-tiny_8xb128-ema_in1k.py

Source: the authors' training script has it as an option, with a decay of 0.9999. Not trained yet.
"""

_base_ = './scopevit-tiny_8xb128_in1k.py'
custom_hooks = [dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')]
