"""What there is: the machine, the libraries, and whether the device works at all."""

import torch
from findings import Findings

from scopevit import compat
from scopevit.benchmark.machine import describe_machine
from scopevit.engine.libraries import LIBRARIES, find_library


def check_machine(device: str, findings: Findings) -> None:
    """Describes the machine, imports the libraries and multiplies two matrices."""
    described = describe_machine(device)
    if device == 'cuda':
        described['GPUs'] = str(torch.cuda.device_count())
        described['NCCL'] = '.'.join(map(str, torch.cuda.nccl.version()))
    findings.table('Machine', ['what', 'which'], list(described.items()), 'll')
    for library in LIBRARIES:
        find_library(library)
    findings.note(f'adaptations of the libraries that acted: {", ".join(compat.acted)}')
    ones = torch.ones(256, 256, device=device)
    if not (ones @ ones).eq(256).all():
        findings.problem('a product of two matrices of ones is wrong')
