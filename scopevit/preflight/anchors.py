"""Whether annotated objects have the sizes that anchors, strides and input of a network fit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import TASK_UTILS

from scopevit.engine.walk import type_name
from scopevit.own_data.detection import halvings
from scopevit.preflight.findings import Finding
from scopevit.preflight.resizing import input_factors, pipeline_steps, pipelines

# Shares of all objects. COCO's own recipes miss about a tenth of COCO's.
SOME, NEARLY_ALL = 0.25, 0.9
BOX_PADDING = 1.25  # mmpose's, around a person
ENLARGED = 4.0  # a person of whom the network sees little but interpolated pixels


@dataclass(frozen=True)
class Anchors:
    """The anchors of a detector.

    Attributes:
        key: Where their generator is in the config.
        settings: Of the generator.
        shapes: Widths and heights in pixels of the network's input, (A, 2).
        least_overlap: IoU below which an object has no anchor, or one that hardly learns; None
            where anchors are assigned by something else.
    """

    key: str
    settings: dict[str, Any]
    shapes: np.ndarray
    least_overlap: float | None


def check_sizes(sizes: np.ndarray, image_sizes: np.ndarray, cfg: Config) -> list[Finding]:
    """Compares the sizes of annotated objects with what a network is made for.

    Args:
        sizes: Widths and heights of the objects in pixels of their images, (N, 2).
        image_sizes: Widths and heights of the image of each, (N, 2).
        cfg: Config of a training.
    """
    sizes, image_sizes = np.asarray(sizes, float), np.asarray(image_sizes, float)
    usable = (sizes > 0).all(axis=-1) & (image_sizes > 0).all(axis=-1)
    sizes, image_sizes = sizes[usable], image_sizes[usable]
    if not len(sizes):
        return []
    if cfg.get('default_scope') == 'mmpose':
        return check_people(sizes, cfg)
    try:
        seen = sizes * input_factors(cfg, image_sizes)
    except (TypeError, ValueError):  # no scale: the pipeline says so when it is built
        return []
    if not (seen > 0).all():
        return []
    anchors = find_anchors(cfg)
    findings = check_anchors(seen, anchors) if anchors else []
    stride = smallest_stride(cfg)
    return findings + (check_stride(seen, stride) if stride else [])


def anchor_sizes(cfg: Config) -> list[float]:
    """Returns the sizes of a detector's anchors, rising: roots of their areas, in input pixels."""
    anchors = find_anchors(cfg)
    if anchors is None:
        return []
    return sorted({round(float(side), 2) for side in np.sqrt(anchors.shapes.prod(axis=1))})


def find_anchors(cfg: Config) -> Anchors | None:
    """Returns the anchors of a detector of one stage, or of the first of two; None without any."""
    if cfg.get('default_scope') != 'mmdet':
        return None
    for name in ('rpn_head', 'bbox_head'):
        settings = model_part(cfg, name).get('anchor_generator')
        if settings:
            break
    else:
        return None
    try:
        with TASK_UTILS.switch_scope_and_registry('mmdet') as registry:
            generator = registry.build(dict(settings))
        # Generators of points have no anchors.
        corners = np.concatenate([anchors.numpy() for anchors in generator.base_anchors])  # (A, 4)
        train_cfg = cfg.model.get('train_cfg') or {}
        assigner = (train_cfg.get('rpn') or train_cfg).get('assigner') or {}
        overlap = least_overlap(assigner)
    # Settings that no network can be built with: told by name where that is tried.
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, ZeroDivisionError):
        return None
    shapes = corners[:, 2:] - corners[:, :2]
    if not len(shapes) or not np.isfinite(shapes).all() or not (shapes > 0).all():
        return None
    return Anchors(
        key=f'model.{name}.anchor_generator',
        settings=dict(settings),
        shapes=shapes,
        least_overlap=overlap,
    )


def least_overlap(assigner: dict[str, Any]) -> float | None:
    """Returns the IoU with its best anchor that an object needs to be learnt.

    Below `min_pos_iou` it has no anchor. Below `neg_iou_thr` it has this one, and all the others
    around learn that nothing is there.
    """
    if assigner.get('type') != 'MaxIoUAssigner':
        return None
    background = assigner['neg_iou_thr']
    high = background[1] if isinstance(background, (list, tuple)) else background
    return float(max(high, assigner.get('min_pos_iou', 0.0)))


def best_overlaps(sizes: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Returns the IoU of each object with its best anchor where their centres are one, (N,).

    Args:
        sizes: Widths and heights of the objects, (N, 2).
        shapes: Widths and heights of the anchors, (A, 2).
    """
    best = np.zeros(len(sizes))
    widths, heights = np.ascontiguousarray(sizes.T)  # columns apart are several times as fast
    areas = widths * heights
    for width, height in shapes:
        common = np.minimum(widths, width) * np.minimum(heights, height)
        np.maximum(best, common / (areas + width * height - common), out=best)
    return best


def check_anchors(sizes: np.ndarray, anchors: Anchors) -> list[Finding]:
    """Finds objects, (N, 2) as the network sees them, that no anchor fits."""
    if anchors.least_overlap is None:
        return []
    missed = sizes[best_overlaps(sizes, anchors.shapes) < anchors.least_overlap]
    share = len(missed) / len(sizes)
    if share < SOME:
        return []
    side = float(np.median(np.sqrt(missed.prod(axis=1))))
    sides = np.sqrt(anchors.shapes.prod(axis=1))
    if side < sides.min():
        what = 'objects smaller than the anchors'
        factor = 0.5 ** max(1, halvings(sides.min(), side))
        change = f'{scale_text(anchors, factor)}enlarge the images'
    elif side > sides.max():
        what = 'objects larger than the anchors'
        factor = 2.0 ** max(1, round(np.log2(side / sides.max())))
        change = f'{scale_text(anchors, factor)}shrink the images'
    else:
        what = 'objects of another shape than the anchors'
        ratio = float(np.median(missed[:, 1] / missed[:, 0]))
        change = f'add {ratio:.2g} (height / width) to {anchors.key}.ratios'
    nearly_all = share >= NEARLY_ALL
    text = (
        f'{len(missed)} of {len(sizes)} objects overlap no anchor by {anchors.least_overlap:g} '
        f'(IoU){", mAP will be near 0" if nearly_all else ""}: as the network sees them they are '
        f'{side:.0f} pixels wide (median), anchors {sides.min():.0f} to {sides.max():.0f}: {change}'
    )
    return [Finding('error' if nearly_all else 'warning', what, anchors.key, len(missed), text)]


def scale_text(anchors: Anchors, factor: float) -> str:
    """Returns which setting changes the sizes of anchors by a factor, if there is one."""
    names = [name for name in ('octave_base_scale', 'scales') if anchors.settings.get(name)]
    if not names:
        return ''
    scales = np.atleast_1d(anchors.settings[names[0]])
    if factor < 1:  # anchors of less than a stride leave gaps between them
        factor = max(factor, min(1.0, 1 / scales.min()))
    if factor == 1:
        return ''
    old, new = (', '.join(f'{scale * f:g}' for scale in scales) for f in (1.0, factor))
    form = '[{}]' if names[0] == 'scales' else '{}'
    return f'set {anchors.key}.{names[0]}={form.format(new)} (now {form.format(old)}), or '


def smallest_stride(cfg: Config) -> float | None:
    """Returns how many input pixels apart the finest predictions are, where the config tells."""
    places = [model_part(cfg, name).get('anchor_generator') for name in ('rpn_head', 'bbox_head')]
    places += [model_part(cfg, 'bbox_head'), model_part(cfg, 'decode_head')]
    for place in places:
        strides = (place or {}).get('strides') or (place or {}).get('feature_strides')
        if strides:
            return float(np.min(strides))
    return None


def check_stride(sizes: np.ndarray, stride: float) -> list[Finding]:
    """Finds objects, (N, 2) as the network sees them, that lie between its finest predictions."""
    small = int((np.sqrt(sizes.prod(axis=1)) < stride).sum())
    if small / len(sizes) < SOME:
        return []
    text = (
        f'{small} of {len(sizes)} objects are less than {stride:g} pixels wide as the network sees '
        'them, which is its smallest stride: enlarge the images (scale of the pipelines), or cut '
        'them into tiles'
    )
    return [Finding('warning', 'objects smaller than a stride', 'train', small, text)]


def check_people(sizes: np.ndarray, cfg: Config) -> list[Finding]:
    """Finds boxes of people, (N, 2) in pixels of the image, much smaller than the input."""
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    steps = [s for pipeline in pipelines(dataset) for s in pipeline_steps(pipeline)]
    inputs = [s['input_size'] for s in steps if type_name(s) == 'TopdownAffine']
    if not inputs:
        return []
    factors = (np.array(inputs[0], float) / (BOX_PADDING * sizes)).min(axis=1)
    small = int((factors > ENLARGED).sum())
    if small / len(sizes) < SOME:
        return []
    width, height = inputs[0]
    text = (
        f'{small} of {len(sizes)} boxes are enlarged more than {ENLARGED:g} times to the input of '
        f'{width}x{height} pixels: a smaller input_size is faster and sees as much'
    )
    return [Finding('note', 'boxes smaller than the input', 'train', small, text)]


def model_part(cfg: Config, name: str) -> dict[str, Any]:
    """Returns the settings of a part of the model; none where it is a list or not there."""
    part = (cfg.get('model') or {}).get(name)
    return part if isinstance(part, dict) else {}
