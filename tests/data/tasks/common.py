"""What the miniature tasks share. Their configs are `arch`, this and the file of the task as one."""

custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
randomness = dict(seed=0)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
auto_scale_lr = dict(base_batch_size=16)
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
train_sampler = dict(type='DefaultSampler', shuffle=True)
test_sampler = dict(type='DefaultSampler', shuffle=False)
