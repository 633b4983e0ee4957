# The network scales any image to its own 240x240.
_base_ = ['../../_base_/in1k_224.py', '../../_base_/timm_classifier.py']
model = dict(model_name='crossvit_small_240')
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0))
    )
)
