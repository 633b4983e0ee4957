# What `scopevit new classification` builds on: the fine-tuning recipe, from new weights on few
# images. Layer scale, rate and clipping are those of configs/demo, tried on 6,000 images.
_base_ = '../../classification/scopevit-tiny_1xb64-ft-30e_custom.py'

# The published 1e-6 needs hundreds of epochs to open the branches.
model = dict(backbone=dict(layer_scale_init_value=0.1))
# An incomplete batch may be of one sample, of which batch norm has no statistics.
train_dataloader = dict(drop_last=True)
optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=5.0))
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=1, save_best='accuracy/top1', rule='greater'),
)
randomness = dict(seed=0)
