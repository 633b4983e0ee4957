_base_ = ['../../_base_/in1k_224.py', '../../_base_/timm_classifier.py']
model = dict(model_name='coat_mini')
optim_wrapper = dict(
    paramwise_cfg=dict(
        bypass_duplicate=True,  # it uses modules in several places
        custom_keys=dict(cls_token=dict(decay_mult=0.0)),
    )
)
