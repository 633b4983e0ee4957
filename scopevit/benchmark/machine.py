"""What a measurement depends on besides the network."""

import datetime
import importlib.metadata
import os
import platform
import re
from pathlib import Path

import torch

from scopevit.errors import InputError
from scopevit.version import __version__

PACKAGES = ('timm', 'mmengine', 'mmcv', 'mmcv-lite', 'mmdet', 'mmpose', 'mmpretrain',
            'mmsegmentation')  # fmt: skip
# How threads wait, and how much memory the C library keeps for itself.
VARIABLES = ('OMP_WAIT_POLICY', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_')


def check_device(device: str) -> None:
    """Raises an InputError unless torch can use a device."""
    if device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda: torch finds no GPU; --device cpu works everywhere')


def available_devices() -> tuple[str, ...]:
    """Returns the CPU, and CUDA where torch can use it."""
    return ('cpu', 'cuda') if torch.cuda.is_available() else ('cpu',)


def describe_machine(device: str) -> dict[str, str]:
    """Returns processor, threads, variables, versions and date by their names."""
    machine = {
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='minutes'),
        'processor': processor_name(),
        'cores': str(len(os.sched_getaffinity(0))),
        'threads of torch': str(torch.get_num_threads()),
        **{name: os.environ.get(name, 'not set') for name in VARIABLES},
    }
    if device == 'cuda':
        machine['GPU'] = torch.cuda.get_device_name()
    versions = {'python': platform.python_version(), 'scopevit': __version__}
    versions['torch'] = torch.__version__
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # a library that is not installed has measured nothing
    return {**machine, **versions}


def processor_name() -> str:
    """Returns the name of the CPU, or its architecture where the system does not tell."""
    info = Path('/proc/cpuinfo')
    found = re.search(r'model name\s*:(.*)', info.read_text()) if info.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
