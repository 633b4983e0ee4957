"""What is installed and found here: for bug reports, and for those who wonder what runs where."""

import json
import os
from typing import Any

import torch

from scopevit import compat
from scopevit.benchmark.machine import driver_version, processor_name
from scopevit.compat.external_configs import CONFIGS
from scopevit.compat.operators import describe_operators, operators_text
from scopevit.engine.environment import find_versions
from scopevit.engine.libraries import LIBRARIES, Library, find_library
from scopevit.errors import InputError
from scopevit.hub import config_files


def describe_installation() -> dict[str, Any]:
    """Returns versions, devices, shims, operators of mmcv and the place of the configs.

    Imports all libraries, since most shims act only then.
    """
    found = [library for name in LIBRARIES if (library := installed(name))]
    return {
        'versions': find_versions(*found),
        'not installed': [name for name in LIBRARIES if name not in [f.name for f in found]],
        'devices': describe_devices(),
        'shims': list(compat.acted),
        'operators': describe_operators(),
        'configs': {'folder': str(CONFIGS.resolve()), 'number': len(config_files())},
    }


def installed(name: str) -> Library | None:
    """Imports a library; returns None where it, or what it needs, is not installed."""
    try:
        return find_library(name)
    except InputError:
        return None


def describe_devices() -> dict[str, Any]:
    """Returns the processor and the GPUs that torch can use, and what drives them."""
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        'CPU': processor_name(),
        'cores': len(os.sched_getaffinity(0)),
        'GPUs': [
            {
                'name': gpu.name,
                'memory in GiB': round(gpu.total_memory / 2**30, 1),
                'compute capability': f'{gpu.major}.{gpu.minor}',
            }
            for gpu in gpus
        ],
        'driver': driver_version() if gpus else '',
        'CUDA of torch': torch.version.cuda or '',
        'cuDNN': str(torch.backends.cudnn.version() or ''),
    }


def as_json(description: dict[str, Any]) -> str:
    """Returns what `describe_installation` found as JSON."""
    return json.dumps(description, indent=2)


def as_text(description: dict[str, Any]) -> str:
    """Returns what `describe_installation` found as lines to read."""
    devices, configs = description['devices'], description['configs']
    rows = list(description['versions'].items())
    rows += [(name, 'not installed') for name in description['not installed']]
    rows.append(('CPU', f'{devices["CPU"]}, {devices["cores"]} cores'))
    rows += [
        (
            f'GPU {i}',
            f'{gpu["name"]}, {gpu["memory in GiB"]} GiB, '
            f'compute capability {gpu["compute capability"]}',
        )
        for i, gpu in enumerate(devices['GPUs'])
    ] or [('GPU', 'none that torch can use')]
    rows += [
        (name, devices[name] or 'none')
        for name in ('driver', 'CUDA of torch', 'cuDNN')
        if devices['GPUs'] or name != 'driver'
    ]
    rows.append(('shims', ', '.join(description['shims']) or 'none acted'))
    rows.append(('mmcv operators', operators_text(description['operators'])))
    rows.append(('configs', f'{configs["number"]} in {configs["folder"]}'))
    return '\n'.join(f'{name:16}{value}' for name, value in rows)
