"""The JSON file beside an export: all that its users must know, without our code."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from scopevit.engine.walk import type_name
from scopevit.export.graphs import Graph
from scopevit.export.network import Network
from scopevit.export.preprocessing import describe_steps
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
    checks: list[dict[str, Any]],
) -> dict[str, Any]:
    """Returns what stands in the file beside an export."""
    labels = read_labels(net.recipe.metainfo, net.recipe.source)
    height, width = net.size
    sides: list[Any] = ['height', 'width'] if dynamic else [height, width]
    batch = 1 if 'boxes' in graph.outputs else 'batch'
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
        'classes': list(labels.classes),
        'palette': [list(color) for color in labels.palette],
        'keypoints': list(labels.keypoints),
        'preprocessing': describe_steps(net.recipe.pipeline),
        'checks': checks,
        'versions': {'scopevit': __version__} | {name: find_version(name) for name in PACKAGES},
    }


def find_version(package: str) -> str | None:
    """Returns the version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
