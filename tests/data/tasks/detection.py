default_scope = 'mmdet'
data_root = '{{ fileDirname }}/detection_data'
classes = ('connective', 'inflammatory', 'neoplastic')
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor', pad_mask=True, pad_size_divisor=32, bgr_to_rgb=True, **norm
    ),
    backbone=dict(type='ScopeViT', arch=arch, out_indices=(0, 1, 2, 3)),
    neck=dict(type='FPN', in_channels=[8, 16, 32, 32], out_channels=16, num_outs=4),
    rpn_head=dict(
        type='RPNHead',
        in_channels=16,
        feat_channels=16,
        anchor_generator=dict(
            type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[4, 8, 16, 32]
        ),
    ),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
            out_channels=16,
            featmap_strides=[4, 8, 16, 32],
        ),
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=16,
            fc_out_channels=16,
            num_classes=3,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        ),
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=16,
            featmap_strides=[4, 8, 16, 32],
        ),
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=1,
            in_channels=16,
            conv_out_channels=16,
            num_classes=3,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3
            ),
            sampler=dict(
                type='RandomSampler', num=16, pos_fraction=0.5, add_gt_as_proposals=False
            ),
            allowed_border=-1,
            pos_weight=-1,
        ),
        rpn_proposal=dict(
            nms_pre=20, max_per_img=10, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0
        ),
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5
            ),
            sampler=dict(
                type='RandomSampler', num=16, pos_fraction=0.5, add_gt_as_proposals=True
            ),
            mask_size=28,
            pos_weight=-1,
        ),
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=20, max_per_img=10, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0
        ),
        rcnn=dict(
            score_thr=0.0,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=10,
            mask_thr_binary=0.5,
        ),
    ),
)
load = dict(type='LoadImageFromFile')
load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
resize = dict(type='Resize', scale=(128, 128), keep_ratio=True)
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
dataset = dict(
    type='CocoDataset',
    data_root=data_root,
    ann_file='instances.json',
    data_prefix=dict(img='images/'),
    metainfo=dict(classes=classes),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(
        pipeline=[load, load_annotations, resize, dict(type='PackDetInputs')], **dataset
    ),
    sampler=train_sampler,
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(
        test_mode=True,
        pipeline=[load, resize, load_annotations, dict(type='PackDetInputs', meta_keys=meta_keys)],
        **dataset,
    ),
    sampler=test_sampler,
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + '/instances.json', metric=['bbox', 'segm']
)
test_evaluator = val_evaluator
