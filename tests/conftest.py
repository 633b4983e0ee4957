"""Miniature data sets of real images, configs for them, and the tools as functions."""

import gc
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.utils import ManagerMixin

from scopevit.cli import run_tool
from scopevit.engine.config import load_config
from scopevit.engine.libraries import find_library

ROOT = Path(__file__).parents[1]
DEMO = ROOT / 'data' / 'demo'

# Widths and depths that are of no use but to be fast: 64 channels out of the last stage.
BACKBONE = """dict(
    type='ScopeViT',
    arch=dict(
        embed_dims=(8, 16, 32, 64),
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 4, 8),
        kv_strides=(4, 2, 1, 1),
        head_splits=((1, 0, 0), (1, 1, 0), (2, 1, 1), (4, 3, 1)),
        grid_size=8,
    ),
    out_indices=OUT_INDICES,
)"""

COMMON = """
custom_imports = dict(imports=['scopevit'], allow_failed_imports=False)
default_scope = 'SCOPE'
data_root = 'DATA'
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
"""

CLASSIFICATION = """
model = dict(
    type='ImageClassifier',
    data_preprocessor=norm,
    backbone=BACKBONE,
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=3,
        in_channels=64,
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
"""

DETECTION = """
classes = ('connective', 'inflammatory', 'neoplastic')
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor', pad_mask=True, pad_size_divisor=32, bgr_to_rgb=True, **norm
    ),
    backbone=BACKBONE,
    neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=16, num_outs=4),
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
"""

SEGMENTATION = """
classes = ('background', 'connective', 'inflammatory', 'neoplastic')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', size=(64, 64), seg_pad_val=255, bgr_to_rgb=True, **norm
    ),
    backbone=BACKBONE,
    decode_head=dict(
        type='FCNHead',
        in_channels=8,
        in_index=0,
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
"""

POSE = """
codec = dict(type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=2)
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(type='PoseDataPreprocessor', bgr_to_rgb=True, **norm),
    backbone=BACKBONE,
    head=dict(
        type='HeatmapHead',
        in_channels=64,
        out_channels=17,
        deconv_out_channels=(16, 16, 16),
        deconv_kernel_sizes=(4, 4, 4),
        loss=dict(type='KeypointMSELoss', use_target_weight=True),
        decoder=codec,
    ),
)
load = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='TopdownAffine', input_size=codec['input_size']),
]
dataset = dict(
    type='CocoDataset',
    data_root=data_root,
    data_mode='topdown',
    ann_file='people.json',
    data_prefix=dict(img='images/'),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(
        pipeline=[*load, dict(type='GenerateTarget', encoder=codec), dict(type='PackPoseInputs')],
        **dataset,
    ),
    sampler=train_sampler,
)
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(test_mode=True, pipeline=[*load, dict(type='PackPoseInputs')], **dataset),
    sampler=test_sampler,
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file=data_root + '/people.json')
test_evaluator = val_evaluator
"""


@dataclass(frozen=True)
class Task:
    """A miniature task.

    Attributes:
        config: Config file.
        data: Folder of its images and annotations.
        work_dir: Folder for results, not there yet.
    """

    config: Path
    data: Path
    work_dir: Path

    def edit(self, old: str, new: str) -> None:
        """Replaces text in the config that is there exactly once."""
        text = self.config.read_text()
        assert text.count(old) == 1, f'{old!r} is there {text.count(old)} times'
        self.config.write_text(text.replace(old, new))


def read_idx(path: Path, offset: int) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), np.uint8, offset=offset)


def make_classification(folder: Path) -> None:
    """Two images each of classes 0 to 2 of Fashion-MNIST, and two more of class 1."""
    (folder / 'images').mkdir(parents=True)
    source = DEMO / 'fashion_mnist'
    images = read_idx(next(source.rglob('t10k-images*')), 16).reshape(-1, 28, 28)
    labels = read_idx(next(source.rglob('t10k-labels*')), 8)
    chosen = [i for c, n in ((0, 2), (1, 4), (2, 2)) for i in np.flatnonzero(labels == c)[:n]]
    lines = []
    for i in chosen:
        cv2.imwrite(str(folder / 'images' / f'{i}.png'), images[i])
        lines.append(f'{i}.png {labels[i]}\n')
    (folder / 'labels.txt').write_text(''.join(lines))


def copy_coco(source: Path, images: Path, count: int, target: Path) -> None:
    """Copies the first images of a COCO file, and their annotations."""
    content = json.loads(source.read_text())
    content['images'] = content['images'][:count]
    ids = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in ids]
    (target.parent / 'images').mkdir(parents=True, exist_ok=True)
    for image in content['images']:
        name = image['file_name']
        (target.parent / 'images' / name).write_bytes((images / name).read_bytes())
    target.write_text(json.dumps(content))


def make_nuclei(folder: Path) -> None:
    """Four tiles with instances of all three classes, and their label maps."""
    source = DEMO / 'nuclei'
    copy_coco(
        source / 'annotations' / 'instances_train.json',
        source / 'images' / 'train',
        4,
        folder / 'instances.json',
    )
    (folder / 'masks').mkdir()
    for image in (folder / 'images').iterdir():
        mask = source / 'masks' / 'train' / f'{image.stem}.png'
        (folder / 'masks' / mask.name).write_bytes(mask.read_bytes())


def make_pose(folder: Path) -> None:
    """The people of two images."""
    source = DEMO / 'pose'
    copy_coco(
        source / 'annotations' / 'person_keypoints_val.json',
        source / 'images' / 'val',
        2,
        folder / 'people.json',
    )


TASKS = {
    'classification': ('mmpretrain', CLASSIFICATION, '(3,)', make_classification),
    'detection': ('mmdet', DETECTION, '(0, 1, 2, 3)', make_nuclei),
    'segmentation': ('mmseg', SEGMENTATION, '(0, 1, 2, 3)', make_nuclei),
    'pose': ('mmpose', POSE, '(3,)', make_pose),
}


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[[str], Task]:
    """A function that writes one of the four tasks, for this test to spoil."""

    def make(name: str) -> Task:
        scope, text, out_indices, make_data = TASKS[name]
        data = tmp_path / f'{name}_data'
        make_data(data)
        text = COMMON.replace('SCOPE', scope).replace('DATA', str(data)) + text
        text = text.replace('BACKBONE', BACKBONE.replace('OUT_INDICES', out_indices))
        config = tmp_path / f'{name}.py'
        config.write_text(text)
        return Task(config, data, tmp_path / f'{name}_work_dir')

    return make


def load_tool(name: str) -> Callable[[list[str]], None]:
    spec = importlib.util.spec_from_file_location(f'tools_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def load_main() -> Callable[[str], Callable[[list[str]], None]]:
    """A function that returns the `main` of a tool."""
    return load_tool


@pytest.fixture
def tool(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str]]:
    """A function that runs a tool in this process: exit code and what it printed to stderr."""

    def run(name: str, *arguments: object) -> tuple[int, str]:
        # mmengine keeps loggers and visualizers by the second in which their run began.
        gc.collect()
        for manager in all_subclasses(ManagerMixin):
            manager._instance_dict.clear()
        capsys.readouterr()
        code = run_tool(load_tool(name), [str(argument) for argument in arguments])
        return code, capsys.readouterr().err

    return run


def all_subclasses(cls: type) -> list[type]:
    return [cls, *(d for child in cls.__subclasses__() for d in all_subclasses(child))]


@pytest.fixture
def fails(tool: Callable[..., tuple[int, str]]) -> Callable[..., str]:
    """A function that runs a tool, asserts that it refuses its input, and returns the line."""

    def run(name: str, *arguments: object) -> str:
        code, err = tool(name, *arguments)
        lines = [line for line in err.splitlines() if line.startswith('error: ')]
        assert code == 1
        assert len(lines) == 1, err
        assert 'Traceback' not in err
        return lines[0]

    return run


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess]:
    """A function that runs a command in the repository as a process of its own."""

    def run(*command: object, **variables: str) -> subprocess.CompletedProcess:
        paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(paths)}
        return subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env={**env, **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[bytes, int]]]:
    """A function that returns content and time of every file right in a folder."""

    def take(folder: Path) -> dict[str, tuple[bytes, int]]:
        files = [path for path in folder.iterdir() if path.is_file()]
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    return take


@pytest.fixture
def save_weights() -> Callable[..., Path]:
    """A function that writes the weights of a task's new model, after a change, as a checkpoint."""

    def save(task: Task, change: Callable[[dict], None] | None = None) -> Path:
        cfg = load_config(task.config)
        find_library(cfg.default_scope)
        torch.manual_seed(0)
        with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
            state_dict = registry.build(cfg.model).state_dict()
        if change:
            change(state_dict)
        path = task.config.with_name(f'{task.config.stem}.pth')
        torch.save({'meta': {}, 'state_dict': dict(state_dict)}, path)
        return path

    return save
