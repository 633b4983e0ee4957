"""One step of tools/gpu/check.py, in a process of its own.

python tools/gpu/step.py FUNCTION DEVICE FINDINGS.json SECONDS
"""

import importlib
import os
import sys
import time
from pathlib import Path


def main(function: str, device: str, path: str, seconds: str) -> None:
    """Calls a function, as 'parity.check_parity', with a device and what keeps its findings."""
    deadline = time.monotonic() + float(seconds)
    # Before torch looks for GPUs.
    if device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    from findings import Findings

    module, _, name = function.partition('.')
    findings = Findings(Path(path), deadline=deadline)
    findings.save()
    getattr(importlib.import_module(module), name)(device, findings)


if __name__ == '__main__':
    main(*sys.argv[1:])
