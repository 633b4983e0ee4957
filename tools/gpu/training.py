"""Training steps of the recipes on a device: their memory and their time."""

import functools
import gc
import math
import statistics
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from findings import Findings
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmpose.structures import PoseDataSample
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from processes import ROOT
from torch import Tensor

from scopevit.benchmark.memory import peak_memory
from scopevit.benchmark.networks import TASKS, input_shape
from scopevit.benchmark.predict import Prediction, predict_step
from scopevit.benchmark.timing import visit
from scopevit.engine.config import enable_amp, load_config
from scopevit.engine.model import build_model
from scopevit.errors import error_text
from scopevit.report import number, size_text

# The most telling first: as many run as there is time for.
RECIPES = (
    ('classification/scopevit-tiny_8xb128_in1k', True),
    ('detection/retinanet_scopevit-tiny_fpn_1x_coco', False),
    ('detection/mask-rcnn_scopevit-tiny_fpn_1x_coco', True),
    ('segmentation/upernet_scopevit-tiny_8xb2-160k_ade20k-512x512', True),
    ('pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192', True),
    ('segmentation/fpn_scopevit-tiny_8xb4-80k_ade20k-512x512', True),
    ('classification/scopevit-tiny_8xb128_in1k', False),
    ('detection/retinanet_scopevit-tiny_fpn_1x_coco', True),
    ('detection/mask-rcnn_scopevit-tiny_fpn_1x_coco', False),
    ('segmentation/upernet_scopevit-tiny_8xb2-160k_ade20k-512x512', False),
    ('pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192', False),
    ('segmentation/fpn_scopevit-tiny_8xb4-80k_ade20k-512x512', False),
    ('classification/scopevit-small_8xb128_in1k', True),
    ('classification/scopevit-xtiny_8xb128_in1k', True),
    ('pose/td-hm_scopevit-tiny_8xb32-210e_coco-384x288', True),
)
# What a CPU has done within seconds.
SHORT = (
    ('classification/scopevit-xtiny_8xb128_in1k', True),
    ('detection/retinanet_scopevit-xtiny_fpn_1x_coco', False),
    ('segmentation/fpn_scopevit-xtiny_8xb4-80k_ade20k-512x512', False),
    ('pose/td-hm_scopevit-xtiny_8xb32-210e_coco-256x192', False),
)
RECIPE_SECONDS = 15  # that one may take, with its prediction
SHORT_SIZE = (128, 128)
OBJECTS = 8  # an image, of which some are on each level of a detector


# Batches of noise ---------------------------------------------------------------------------------


def classification_sample(index: int, size: tuple[int, int], model: Config) -> DataSample:
    return DataSample().set_gt_label(index % model.head.num_classes)


def detection_sample(index: int, size: tuple[int, int], model: Config) -> DetDataSample:
    height, width = size
    sides = np.geomspace(16, min(size) / 2, OBJECTS)
    boxes = torch.tensor([[8.0, 8.0, 8.0 + side, 8.0 + side] for side in sides])
    masks = np.zeros((OBJECTS, height, width), np.uint8)
    for mask, side in zip(masks, sides.astype(int)):
        mask[8 : 8 + side, 8 : 8 + side] = 1
    instances = InstanceData(
        bboxes=boxes, labels=torch.arange(OBJECTS), masks=BitmapMasks(masks, height, width)
    )
    meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    return DetDataSample(gt_instances=instances, metainfo=meta)


def segmentation_sample(index: int, size: tuple[int, int], model: Config) -> SegDataSample:
    labels = torch.arange(size[0])[None, :, None] % model.decode_head.num_classes
    meta = dict(img_shape=size, ori_shape=size)
    # (1, H, 1) -> (1, H, W)
    return SegDataSample(gt_sem_seg=PixelData(data=labels.repeat(1, 1, size[1])), metainfo=meta)


def pose_sample(index: int, size: tuple[int, int], model: Config) -> PoseDataSample:
    joints = model.head.out_channels
    heatmaps = torch.zeros(joints, size[0] // 4, size[1] // 4)
    heatmaps[:, size[0] // 8, size[1] // 8] = 1
    weights = InstanceData(keypoint_weights=torch.ones(1, joints))
    return PoseDataSample(gt_instance_labels=weights, gt_fields=PixelData(heatmaps=heatmaps))


SAMPLES = {
    'classification': classification_sample,
    'detection': detection_sample,
    'segmentation': segmentation_sample,
    'pose': pose_sample,
}


def make_batch(
    cfg: Config, batch_size: int, size: tuple[int, int], device: str
) -> dict[str, Tensor | list]:
    """Makes what a recipe's loader gives: images of noise, and what is true of them."""
    sample = SAMPLES[TASKS[cfg.default_scope]]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (batch_size, 3, *size), generator=generator, dtype=torch.uint8)
    images = images.to(device)
    samples = [sample(index, size, cfg.model) for index in range(batch_size)]
    # mmpretrain's loaders make one tensor of the images, the others' leave them as they are.
    inputs = images if cfg.default_scope == 'mmpretrain' else list(images)
    return {'inputs': inputs, 'data_samples': samples}


# Steps --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What a training step takes."""

    batch_size: int
    size: tuple[int, int]  # height and width in pixels
    seconds: float
    peak_bytes: int  # network, gradients and the optimizer's state included
    loss: float


class TrainingStep:
    """A recipe's model, its optimizer and a batch that is on the device; calling it trains once.

    Attributes:
        batch_size: Images; on a CPU two.
        size: Height and width of the images in pixels; on a CPU small ones, where a recipe may have
            others than its own.
        loss: Of the last step.
        count: How many steps there were.
        optimizer: With its state.
    """

    def __init__(self, path: Path, amp: bool, device: str) -> None:
        cfg = load_config(path)
        if amp:
            enable_amp(cfg)
        self.device = device
        self.batch_size, self.size = cfg.train_dataloader.batch_size, input_shape(cfg)[1:]
        if device == 'cpu':
            self.batch_size = 2
            self.size = self.size if 'codec' in cfg else SHORT_SIZE
        if 'size' in cfg.model.get('data_preprocessor', {}):
            cfg.model.data_preprocessor.size = self.size
        self.batch = make_batch(cfg, self.batch_size, self.size, device)
        self.scope = cfg.default_scope
        self.model = build_model(cfg)
        self.model.init_weights()
        self.model.to(device).train()
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.optimizer = self.optim_wrapper.optimizer
        self.loss, self.count = math.nan, 0

    def __call__(self) -> None:
        self.count += 1
        with DefaultScope.overwrite_default_scope(self.scope):
            losses = self.model.train_step(self.batch, self.optim_wrapper)
        self.loss = losses['loss'].item()


def measure_step(path: Path, amp: bool, device: str) -> Measured:
    """Measures a recipe's training step."""
    torch.manual_seed(0)
    steps: list[TrainingStep] = []

    def prepare() -> None:
        steps.append(TrainingStep(path, amp, device))
        steps[0]()
        # The optimizer makes its state in its first step, which loss scaling may leave out.
        while not steps[0].optimizer.state and steps[0].count < 10:
            steps[0]()
        steps[0]()

    peak_bytes = peak_memory(prepare, device)
    (step,) = steps
    seconds = statistics.median(visit(step, at_least=1.0, trusted=2.0))
    return Measured(step.batch_size, step.size, seconds, peak_bytes, step.loss)


def predicted_peak(path: Path, amp: bool) -> str:
    """Returns the peak in GiB that is predicted for a recipe's training step, or why none is."""
    try:
        return number(predicted(path).cost(amp).peak_bytes / 2**30)
    # It follows torch's inner ways, which may be others where there is a GPU.
    except Exception as error:
        return error_text(error)


@functools.cache
def predicted(path: Path) -> Prediction:
    """Returns what is predicted of a recipe, with mixed precision and without."""
    return predict_step(load_config(path))


def check_steps(device: str, findings: Findings) -> None:
    """Measures training steps of recipes at their batch a GPU, as many as there is time for."""
    MMLogger.get_current_instance().setLevel('WARNING')  # it tells of every parameter
    columns = ['recipe', 'AMP', 'batch', 'size', 'step (ms)', 'images/s', 'peak (GiB)']
    columns += ['predicted (GiB)', 'loss']
    title = "A step on images that are on the device; the peak is that of torch's allocator"
    rows = []
    for name, amp in RECIPES if device == 'cuda' else SHORT:
        if findings.seconds_left < RECIPE_SECONDS:
            findings.note(f'there was no time for the rest, from {name} on')
            break
        what = f'{name}{" with AMP" * amp}'
        path = ROOT / 'configs' / f'{name}.py'
        try:
            found = measure_step(path, amp, device)
        except torch.cuda.OutOfMemoryError:
            findings.note(f'{what}: not enough memory')
            continue
        # Whatever a library raises about one recipe is no reason to leave out the others.
        except Exception as error:
            findings.problem(f'{what}: {error_text(error)}')
            traceback.print_exc()
            continue
        finally:
            gc.collect()
            torch.cuda.empty_cache()
        if not math.isfinite(found.loss):
            findings.problem(f'{what}: its loss is no number')
        # A CPU has not the recipe's batch.
        predicted = predicted_peak(path, amp) if device == 'cuda' else ''
        figures = [1e3 * found.seconds, found.batch_size / found.seconds, found.peak_bytes / 2**30]
        rows.append([name, 'yes' if amp else 'no', str(found.batch_size), size_text(found.size),
                     *map(number, figures), predicted, f'{found.loss:.3g}'])  # fmt: skip
        findings.table(title, columns, rows)
