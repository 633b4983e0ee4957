"""The JSON file beside an export: all that its users must know, without our code."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from scopevit.engine.walk import type_name
from scopevit.export.graphs import BackboneGraph, Graph, last_head
from scopevit.export.network import Network
from scopevit.export.preprocessing import describe_steps
from scopevit.inference.recipe import Recipe
from scopevit.inference.samples import read_labels
from scopevit.version import __version__

PACKAGES = ('torch', 'onnx', 'onnxruntime', 'openvino')


def describe(
    net: Network,
    graph: Graph,
    checkpoint: Path,
    path: Path,
    dynamic: bool,
    backbone: bool,
) -> dict[str, Any]:
    """Returns what stands in the file beside an export."""
    labels = read_labels(net.recipe.metainfo, net.recipe.source)
    height, width = net.size
    sides: list[Any] = ['height', 'width'] if dynamic else [height, width]
    batch = 'batch' if graph.takes_many else 1
    return {
        'file': path.name,
        'task': 'backbone' if backbone else net.recipe.library.task,
        'checkpoint': checkpoint.name,
        'model': type_name(net.recipe.model),
        'input': {
            'name': 'images',
            'shape': [batch, *sides, net.channels],
            'type': 'uint8',
            'channels': 'RGB' if net.channels == 3 else 'gray',
            'normalisation': 'is in the file',
        },
        'outputs': list(graph.outputs),
        'settings': settings(net, graph),
        'classes': list(labels.classes),
        'palette': [list(color) for color in labels.palette],
        'keypoints': list(labels.keypoints),
        'preprocessing': describe_steps(net.recipe.pipeline),
        'config': config_text(net.recipe),
        'versions': {'scopevit': __version__} | {name: find_version(name) for name in PACKAGES},
    }


def settings(net: Network, graph: Graph) -> dict[str, Any]:
    """Returns what stands between the outputs and the answers of the library."""
    model, images = net.model, graph.images
    known: dict[str, Any] = {
        'pipeline': 'RGB' if net.is_rgb else 'BGR',
        'fill': images.fill_color(),
        'divisor': images.divisor,
    }
    if isinstance(graph, BackboneGraph):
        return known
    match net.recipe.library.task:
        case 'classification':
            head = model.head
            known['is_multi_label'] = type(head).__name__.startswith('MultiLabel')
            known |= {'threshold': getattr(head, 'thr', None), 'top_k': getattr(head, 'topk', None)}
        case 'segmentation':
            known |= {
                'threshold': getattr(last_head(model), 'threshold', None),
                'align_corners': model.align_corners,
            }
        case 'detection' if model.with_mask:
            known['threshold'] = model.roi_head.test_cfg.mask_thr_binary
    return known


def config_text(recipe: Recipe) -> str:
    """Returns what prediction takes from a config, as the text of one."""
    loading = recipe.loading
    steps = list(recipe.pipeline)
    if loading.color_type is not None:
        step = dict(type='LoadImageFromFile', color_type=loading.color_type)
        steps.insert(0, step | {'imdecode_backend': loading.backend})
    dataset = dict(pipeline=steps, data_mode='topdown' if recipe.is_topdown else 'bottomup')
    text: str = Config(
        dict(
            default_scope=recipe.library.name,
            model=recipe.model,
            test_dataloader=dict(batch_size=recipe.batch_size, dataset=dataset),
            dataset_meta=plain(recipe.metainfo),
        )
    ).pretty_text
    return text


def plain(value: Any) -> Any:
    """Returns a value with lists in the place of arrays and sets, so that it is a literal."""
    match value:
        case Mapping():
            return {key: plain(child) for key, child in value.items()}
        case list() | tuple():
            return type(value)(plain(child) for child in value)
        case set() | frozenset():
            return sorted(value)
        case np.ndarray() | np.generic():
            return value.tolist()
    return value


def find_version(package: str) -> str | None:
    """Returns the version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
