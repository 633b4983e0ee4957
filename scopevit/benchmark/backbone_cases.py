"""What of the backbone is measured where nothing else is asked for."""

import re

from scopevit.benchmark.backbone_table import PEERS
from scopevit.benchmark.forms import INFERENCE, TRAINING
from scopevit.errors import InputError
from scopevit.models.checks import MIN_IMAGE_SIZE

FASTEST = {'cpu': 'deployed+compiled', 'cuda': 'deployed+compiled+pure-bf16'}
INTERPRETED = {
    'cpu': ('plain', 'eager', 'channels-last', 'deployed', 'bf16'),
    'cuda': (
        'plain', 'plain+pure-bf16', 'eager', 'channels-last', 'deployed', 'bf16', 'pure-bf16',
        'pure-fp16', 'deployed+pure-bf16',
    ),
}  # fmt: skip
TRAINED = {
    'cpu': ('plain', 'eager', 'checkpointed', 'bf16'),
    'cuda': ('plain', 'plain+bf16', 'eager', 'checkpointed', 'bf16', 'pure-bf16'),
}
# To compile takes longer than to time all forms of a case, hence only where the question is. A GPU
# waits for the calls of operators where the batch is small, so that it gets larger ones as well.
DEFAULT_CASES = {
    'cpu': {
        'inference-256x256-b1': (*INTERPRETED['cpu'], FASTEST['cpu']),
        'inference-256x256-b8': (*INTERPRETED['cpu'], 'compiled', FASTEST['cpu']),
        'inference-512x512-b1': (*INTERPRETED['cpu'], FASTEST['cpu']),
        'inference-512x512-b8': ('plain', 'eager', 'deployed'),
        'inference-1024x1024-b1': (*INTERPRETED['cpu'], FASTEST['cpu']),
        'inference-800x1333-b1': INTERPRETED['cpu'],
        'inference-256x192-b1': INTERPRETED['cpu'],
        'inference-256x192-b8': INTERPRETED['cpu'],
        'training-256x256-b8': (
            'plain', 'eager', 'channels-last', 'checkpointed', 'bf16', 'compiled',
        ),
        'training-512x512-b2': TRAINED['cpu'],
        PEERS: ('eager', FASTEST['cpu']),
    },
    'cuda': {
        'inference-256x256-b1': (*INTERPRETED['cuda'], 'deployed+compiled', FASTEST['cuda']),
        'inference-256x256-b8': INTERPRETED['cuda'],
        'inference-256x256-b64': (*INTERPRETED['cuda'], 'deployed+compiled', FASTEST['cuda']),
        'inference-256x256-b256': INTERPRETED['cuda'],
        'inference-512x512-b1': INTERPRETED['cuda'],
        'inference-512x512-b16': INTERPRETED['cuda'],
        'inference-1024x1024-b1': (*INTERPRETED['cuda'], FASTEST['cuda']),
        'inference-800x1333-b1': INTERPRETED['cuda'],
        'inference-256x192-b64': INTERPRETED['cuda'],
        'training-256x256-b64': (*TRAINED['cuda'], 'channels-last', 'compiled', 'bf16+compiled'),
        'training-256x256-b128': TRAINED['cuda'],
        'training-512x512-b16': TRAINED['cuda'],
        PEERS: ('eager', 'pure-bf16', FASTEST['cuda']),
    },
}  # fmt: skip
PEER_BATCH_SIZES = {'cpu': 8, 'cuda': 64}


def parse_case(name: str) -> tuple[str, tuple[int, int], int]:
    """Returns the mode, (height, width) and batch size that a case's name says.

    Raises:
        InputError: If it says none.
    """
    match = re.fullmatch(rf'({INFERENCE}|{TRAINING})-(\d+)x(\d+)-b([1-9]\d*)', name)
    if match is None:
        raise InputError(
            f'--cases takes {PEERS} and names such as inference-512x512-b1 or training-256x256-b8, '
            f'not {name!r}'
        )
    mode, height, width, batch_size = match.groups()
    size = int(height), int(width)
    if min(size) < MIN_IMAGE_SIZE:
        raise InputError(f'--cases: {name}: a side must be {MIN_IMAGE_SIZE} pixels or more')
    return mode, size, int(batch_size)


def default_forms(name: str, device: str) -> tuple[str, ...]:
    """Returns the forms in which a case is measured on a device where none are asked for."""
    others = INTERPRETED if name.startswith(INFERENCE) else TRAINED
    return DEFAULT_CASES[device].get(name, others[device])
