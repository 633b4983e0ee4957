"""What a result depends on besides its config and weights."""

import importlib.metadata
import importlib.util
import platform

import cv2
import mmcv
import mmengine
import numpy as np
import torch
import torchvision
from mmengine.device import get_device

from scopevit.engine.libraries import Library
from scopevit.version import __version__


def find_versions(library: Library) -> dict[str, str]:
    """Returns the versions of what a result depends on."""
    versions = {
        'python': platform.python_version(),
        'scopevit': __version__,
        'torch': torch.__version__,
        'torchvision': torchvision.__version__,
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'mmengine': mmengine.__version__,
        'mmcv': mmcv.__version__,
        library.name: importlib.import_module(library.name).__version__,
    }
    # Classification does without it.
    if importlib.util.find_spec('pycocotools'):
        versions['pycocotools'] = importlib.metadata.version('pycocotools')
    return versions


def device_name() -> str:
    """Returns 'cpu', or the name of the GPU."""
    device: str = get_device()
    return torch.cuda.get_device_name() if device == 'cuda' else device
