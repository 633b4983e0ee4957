# The ImageNet-1K recipe at 224x224, for peers that were published at that size.
_base_ = './in1k_256.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = 224
test_pipeline = _base_.test_pipeline
# 224 pixels are 0.9 of the short side.
test_pipeline[1].scale = 248
test_pipeline[2].crop_size = 224
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
