default_scope = 'mmpretrain'
data_root = '{{ fileDirname }}/classification_data'
model = dict(
    type='ImageClassifier',
    data_preprocessor=norm,
    backbone=dict(type='ScopeViT', arch=arch, out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=3,
        in_channels=32,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1,),
    ),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=64), dict(type='PackInputs')]
dataset = dict(
    type='CustomDataset',
    data_root=data_root,
    ann_file='labels.txt',
    data_prefix='images',
    metainfo=dict(classes=('t-shirt', 'trouser', 'pullover')),
    pipeline=pipeline,
)
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dataset, sampler=train_sampler)
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dataset, sampler=test_sampler)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
