"""Exported files in their runtimes: arrays in, arrays by name out."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scopevit.errors import InputError, error_text
from scopevit.export.writers import need

# Takes images, (N, H, W, C) uint8, and returns the outputs by name.
Session = Callable[[np.ndarray], dict[str, np.ndarray]]
ENDINGS = ('.onnx', '.xml', '.pt2')


def open_session(path: Path, outputs: Sequence[str]) -> Session:
    """Opens an exported file on the CPU, by its ending.

    Raises:
        InputError: If its runtime is missing, or it is damaged.
    """
    opener = {'.onnx': open_onnx, '.xml': open_openvino, '.pt2': open_pt2}[path.suffix]
    if path.suffix != '.pt2':
        need('onnxruntime' if path.suffix == '.onnx' else 'openvino')
    if not path.is_file():
        raise InputError(f'no such file: {path}')
    try:
        return opener(path, outputs)
    except Exception as error:  # each runtime has errors of its own
        raise InputError(
            f'damaged, or no {path.suffix} file: {path}: {error_text(error)}'
        ) from error


def open_onnx(path: Path, outputs: Sequence[str]) -> Session:
    """Opens a file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(outputs, session.run(list(outputs), {'images': images})))

    return run


@functools.cache
def openvino_core() -> Any:
    """Returns what compiles networks in OpenVINO, one for the process.

    Each has a stack for signals of its own, and puts back that of the one before when it goes.
    Where that one has gone first, the next signal, such as that a process that loads data has
    ended, ends the process with a segmentation fault (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def open_openvino(path: Path, outputs: Sequence[str]) -> Session:
    """Opens a file, .xml or .onnx, in OpenVINO."""
    config = {
        'INFERENCE_PRECISION_HINT': 'f32',
        'INFERENCE_NUM_THREADS': str(torch.get_num_threads()),
    }
    network = openvino_core().compile_model(str(path), 'CPU', config)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        found = network({'images': images})
        return {name: np.array(found[name]) for name in outputs}

    return run


def open_pt2(path: Path, outputs: Sequence[str]) -> Session:
    """Opens a file of `torch.export`."""
    module = torch.export.load(path).module()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return dict(zip(outputs, (x.numpy() for x in module(torch.from_numpy(images)))))

    return run


def graph_session(
    graph: Callable[[torch.Tensor], Sequence[torch.Tensor]], outputs: Sequence[str]
) -> Session:
    """Returns what runs a graph itself."""

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return dict(zip(outputs, (x.numpy() for x in graph(torch.from_numpy(images)))))

    return run


def run(name: str, session: Session, batch: np.ndarray) -> dict[str, np.ndarray]:
    """Runs images through a session, whose failures become one line about `name`."""
    try:
        return session(batch)
    except Exception as error:  # each runtime has errors of its own
        shape = list(batch.shape)
        raise InputError(f'{name} cannot run images {shape}: {error_text(error)}') from error


def split(found: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Returns the answers to each of a batch of images, without objects that are none.

    Args:
        found: Outputs by name, (N, ...) each, or of a detector for one image what it found.
    """
    if 'labels' in found and found['labels'].ndim == 1:
        return [dict(found)]
    if 'labels' not in found:
        count = len(next(iter(found.values())))
        return [{name: array[i] for name, array in found.items()} for i in range(count)]
    counts = (found['labels'] >= 0).sum(axis=1)
    return [
        {name: array[i, :count] for name, array in found.items()} for i, count in enumerate(counts)
    ]
