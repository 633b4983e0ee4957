"""What results depend on besides the config and weights."""

import datetime
import importlib.metadata
import importlib.util
import platform
from typing import Any

import cv2
import mmcv
import mmengine
import numpy as np
import torch
import torchvision
from mmengine.device import get_device
from torch import nn

from scopevit import compat
from scopevit.engine.libraries import Library
from scopevit.version import __version__


def describe_run(library: Library, model: nn.Module) -> dict[str, Any]:
    """Returns the size of a model, without wrappers, and what its results depend on.

    An exported one has no parameters that could be counted.
    """
    device = get_device()
    counts = count_parameters(model)
    return {
        **({'parameters': counts} if counts['total'] else {}),
        'versions': find_versions(library),
        'compat': compat.acted,
        'device': torch.cuda.get_device_name() if device == 'cuda' else device,
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
    }


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Returns the number of parameters of a model and, where it has one, of its backbone."""
    parts = {'total': model, **dict(model.named_children())}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    return {name: counts[name] for name in ('total', 'backbone') if name in counts}


def find_versions(*libraries: Library) -> dict[str, str]:
    """Returns the versions of what results of some libraries depend on."""
    versions = {
        'python': platform.python_version(),
        'scopevit': __version__,
        'torch': torch.__version__,
        'torchvision': torchvision.__version__,
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'mmengine': mmengine.__version__,
        'mmcv': mmcv.__version__,
    }
    for library in libraries:
        versions[library.name] = importlib.import_module(library.name).__version__
    # Classification does without it.
    if importlib.util.find_spec('pycocotools'):
        versions['pycocotools'] = importlib.metadata.version('pycocotools')
    return versions
