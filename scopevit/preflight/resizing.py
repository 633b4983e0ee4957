"""How much larger or smaller a network sees the images of a training."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.config import Config

from scopevit.engine.walk import type_name

RESIZES = ('Resize', 'RandomResize', 'RandomChoiceResize')


def input_scale(cfg: Config, image_size: tuple[float, float]) -> float:
    """Returns by how much the train pipeline enlarges an image, root of the factors of both sides.

    Args:
        cfg: Config of a training.
        image_size: Width and height in pixels.
    """
    return float(np.sqrt(np.prod(input_factors(cfg, np.array([image_size], float)))))


def input_factors(cfg: Config, image_sizes: np.ndarray) -> np.ndarray:
    """Returns by how much the train pipeline enlarges images, (N, 2), of width and height.

    That of the pipeline's first resize; where it draws a scale, the mean: sizes of objects are
    compared with anchors that are factors of two apart, or their third roots. Crops change no
    scale, and a pipeline without a resize none either.

    Args:
        cfg: Config of a training.
        image_sizes: Widths and heights in pixels, (N, 2).
    """
    step = find_resize(cfg)
    if step is None:
        return np.ones_like(image_sizes, float)
    if step.get('scale') is None and step.get('scale_factor'):
        return np.ones_like(image_sizes, float) * step['scale_factor']
    scales = drawn_scales(step)  # (S, 2)
    if step.get('keep_ratio', False):
        # The longer side of the image within that of the scale, and the shorter.
        ratios = np.sort(scales)[:, None] / np.sort(image_sizes)[None]  # (S, N, 2)
        factors = ratios.min(2, keepdims=True).mean(0)  # (N, 1)
        return np.repeat(factors, 2, axis=1)
    return (scales[:, None] / image_sizes[None]).mean(0)  # (S, N, 2) -> (N, 2)


def drawn_scales(step: dict[str, Any]) -> np.ndarray:
    """Returns the widths and heights that a resize draws, (S, 2), or their mean, (1, 2)."""
    if type_name(step) == 'RandomChoiceResize':
        return np.array([np.broadcast_to(scale, 2) for scale in step['scales']], float)
    scale = np.array(step['scale'], float)
    # RandomResize draws between two scales, or up to a ratio smaller and larger than one.
    scale = scale.mean(0) if scale.ndim == 2 else scale
    ratio = np.mean(step.get('ratio_range') or 1.0)
    return np.broadcast_to(scale * ratio, 2)[None]


def find_resize(cfg: Config) -> dict[str, Any] | None:
    """Returns the first step of the train pipeline that resizes to a size, or None."""
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    steps = (step for pipeline in pipelines(dataset) for step in pipeline_steps(pipeline))
    return next((step for step in steps if resizes(step)), None)


def resizes(step: dict[str, Any]) -> bool:
    """Whether a step is a resize that says to which size or by how much."""
    return type_name(step) in RESIZES and any(
        step.get(key) for key in ('scale', 'scales', 'scale_factor')
    )


def pipelines(dataset: dict[str, Any]) -> Iterator[list[Any]]:
    """Yields the pipelines of a data set, those of the sets that it wraps first."""
    for child in (*(dataset.get('datasets') or ()), dataset.get('dataset')):
        if child:
            yield from pipelines(child)
    yield dataset.get('pipeline') or []


def pipeline_steps(pipeline: Any) -> Iterator[dict[str, Any]]:
    """Yields the steps of a pipeline and of the pipelines that it chooses from."""
    for step in pipeline if isinstance(pipeline, (list, tuple)) else [pipeline]:
        if isinstance(step, dict) and 'type' in step:
            yield step
            yield from pipeline_steps(step.get('transforms') or [])
        elif isinstance(step, (list, tuple)):
            yield from pipeline_steps(step)
