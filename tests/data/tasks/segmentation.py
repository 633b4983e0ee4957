default_scope = 'mmseg'
data_root = '{{ fileDirname }}/segmentation_data'
classes = ('background', 'connective', 'inflammatory', 'neoplastic')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', size=(64, 64), seg_pad_val=255, bgr_to_rgb=True, **norm
    ),
    backbone=dict(type='ScopeViT', arch=arch, out_indices=(0, 1, 2, 3)),
    decode_head=dict(
        type='FCNHead',
        in_channels=[8, 16, 32, 32],
        in_index=[0, 1, 2, 3],
        input_transform='resize_concat',
        channels=8,
        num_convs=1,
        num_classes=4,
        norm_cfg=dict(type='SyncBN'),
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
    test_cfg=dict(mode='whole'),
)
dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    data_prefix=dict(img_path='images', seg_map_path='masks'),
    metainfo=dict(classes=classes, palette=[[0, 0, 0], [0, 0, 255], [0, 255, 0], [255, 0, 0]]),
)
resize = dict(type='Resize', scale=(64, 64))
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            resize,
            dict(type='PackSegInputs'),
        ],
        **dataset,
    ),
    sampler=train_sampler,
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            resize,
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        **dataset,
    ),
    sampler=test_sampler,
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [resize],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
