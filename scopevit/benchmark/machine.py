"""What a measurement depends on besides the network."""

import datetime
import importlib.metadata
import operator
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

from scopevit.errors import InputError
from scopevit.report import number
from scopevit.version import __version__

PACKAGES = ('timm', 'mmengine', 'mmcv', 'mmcv-lite', 'mmdet', 'mmpose', 'mmpretrain',
            'mmsegmentation')  # fmt: skip
# How threads wait, and how much memory the C library keeps for itself.
VARIABLES = ('OMP_WAIT_POLICY', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_')
# What torch makes of float32 on a GPU, and whether it looks for the fastest convolution.
SWITCHES = (
    'backends.cuda.matmul.allow_tf32',
    'backends.cuda.matmul.fp32_precision',
    'backends.cudnn.allow_tf32',
    'backends.cudnn.conv.fp32_precision',
    'backends.cudnn.benchmark',
)


def check_device(device: str) -> None:
    """Raises an InputError unless torch can use a device."""
    if device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda: torch finds no GPU; --device cpu works everywhere')


def available_devices() -> tuple[str, ...]:
    """Returns the CPU, and CUDA where torch can use it."""
    return ('cpu', 'cuda') if torch.cuda.is_available() else ('cpu',)


def describe_machine(device: str) -> dict[str, str]:
    """Returns processor, GPU, threads, variables, versions and date by their names."""
    machine = {
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='minutes'),
        'processor': processor_name(),
        'cores': str(len(os.sched_getaffinity(0))),
        'threads of torch': str(torch.get_num_threads()),
        **{name: os.environ.get(name, 'not set') for name in VARIABLES},
    }
    if device == 'cuda':
        machine.update(describe_gpu())
    versions = {'python': platform.python_version(), 'scopevit': __version__}
    versions['torch'] = torch.__version__
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # a library that is not installed has measured nothing
    return {**machine, **versions}


def describe_gpu() -> dict[str, str]:
    """Returns the GPU, the versions of what drives it and torch's switches by their names."""
    properties = torch.cuda.get_device_properties()
    gpu = {
        'GPU': properties.name,
        'GPU memory (GiB)': number(properties.total_memory / 2**30),
        'compute capability': f'{properties.major}.{properties.minor}',
        'driver': driver_version(),
        'CUDA': torch.version.cuda or '',
        'cuDNN': str(torch.backends.cudnn.version() or ''),
    }
    for name in SWITCHES:
        try:
            gpu[f'torch.{name}'] = str(operator.attrgetter(name)(torch))
        # `fp32_precision` came with torch 2.9, which does not tell `allow_tf32` where that was set.
        except (AttributeError, RuntimeError):
            continue
    return {name: value for name, value in gpu.items() if value}


def driver_version() -> str:
    """Returns the version of NVIDIA's driver, '' where there is no `nvidia-smi` that tells."""
    command = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ''
    return done.stdout.partition('\n')[0].strip()


def processor_name() -> str:
    """Returns the name of the CPU, or its architecture where the system does not tell."""
    info = Path('/proc/cpuinfo')
    found = re.search(r'model name\s*:(.*)', info.read_text()) if info.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
