"""Export of a checkpoint, with the proof that the file predicts what its library does."""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from scopevit.errors import InputError, error_text
from scopevit.export import compare, metrics, runtimes, writers
from scopevit.export.description import describe
from scopevit.export.exported import description_of, hash_files
from scopevit.export.graphs import Graph
from scopevit.export.network import (
    Network,
    draw_examples,
    load_network,
    read_examples,
)
from scopevit.files import write_json
from scopevit.hub import config_path

ENDINGS = {'onnx': '.onnx', 'openvino': '.xml', 'pt2': '.pt2'}
CALIBRATED_ON = 64  # images at most, for 8 bits
LEAST_CALIBRATED = 8
OPSETS = range(18, 24)  # that torch.onnx.export(dynamo=True) writes
TRACED_OPSETS = range(16, 21)


def export_checkpoint(
    checkpoint: str | Path,
    format: str = 'onnx',
    out: str | Path | None = None,
    dynamic: bool = False,
    backbone: bool = False,
    size: tuple[int, int] | None = None,
    images: str | Path | None = None,
    half: bool = False,
    opset: int | None = None,
    config: str | Path | None = None,
    data: str | None = None,
    int8: bool = False,
) -> Path:
    """Writes a checkpoint as a file of another runtime, and what is known of it beside it as JSON.

    Nothing is left behind unless PyTorch, ONNX Runtime and OpenVINO predict of it what the library
    does; of 8 bits, of the network that they are made of.

    Args:
        checkpoint: File of a training, which has its config and classes in it.
        format: 'onnx', 'openvino' or 'pt2'.
        out: The file; by default beside the checkpoint, with the ending of the format.
        dynamic: Whether height and width of the images may be others than `size`; of a detector,
            whether it takes any number of images.
        backbone: Whether to export the backbone alone, with its maps.
        size: Height and width of the images; by default what the test pipeline gives.
        images: Folder of images to compare predictions of; by default some are drawn.
        half: Whether OpenVINO keeps the weights in half precision.
        opset: That of ONNX; by default 20, of detectors 17.
        config: A config file instead of the one in the checkpoint. It is Python code that runs.
        data: A config file, or the name of one that comes along, whose test the checkpoint and the
            file go through; the metrics are written beside the file.
        int8: Whether weights and activations have 8 bits, calibrated on `images`.

    Returns:
        The file.

    Raises:
        InputError: If something given is wrong, or predictions differ.
    """
    wanted = Wanted(format, dynamic, backbone, half, int8, images, data)
    check_wanted(wanted)
    writers.need(*writers.NEEDED[format])
    path = Path(checkpoint).expanduser()
    target = Path(out) if out is not None else path.with_suffix(ENDINGS[format])
    if target.suffix != ENDINGS[format]:
        raise InputError(
            f'--out: a file of {format} ends in {ENDINGS[format]}, not {target.name!r}'
        )
    net = load_network(path, config, size)
    opset = check_options(net, wanted, opset)
    photos = read_examples(images, net, CALIBRATED_ON if int8 else 2)
    if int8 and len(photos) < LEAST_CALIBRATED:
        raise InputError(
            f'--int8 takes at least {LEAST_CALIBRATED} images, and {images} has {len(photos)}'
        )
    with files_beside(target) as part:
        export_network(net, photos, path, wanted, opset, part)
    return target


@dataclass(frozen=True)
class Wanted:
    """What an export is asked for; see `export_checkpoint`."""

    format: str
    dynamic: bool = False
    backbone: bool = False
    half: bool = False
    int8: bool = False
    images: str | Path | None = None
    data: str | None = None


def check_wanted(wanted: Wanted) -> None:
    """Raises an InputError for what a format cannot have, whatever the checkpoint."""
    format = wanted.format
    if format not in ENDINGS:
        raise InputError(f'--format is one of {", ".join(ENDINGS)}, not {format!r}')
    if wanted.half and format != 'openvino':
        raise InputError('--half is for --format openvino, which keeps weights so')
    if wanted.int8 and (wanted.half or format == 'pt2' or wanted.backbone):
        alone = 'a backbone alone' if wanted.backbone else '--format pt2'
        raise InputError(f'--int8 does not go with {"--half" if wanted.half else alone}')
    if wanted.int8 and wanted.images is None:
        raise InputError('--int8 is calibrated on images: name a folder of yours by --images')
    if wanted.data is not None and (wanted.backbone or format == 'pt2'):
        kind = 'a backbone alone' if wanted.backbone else 'a pt2'
        raise InputError(f'--data: {kind} has no metrics; leave it out')
    if wanted.data is not None and not Path(config_path(wanted.data)).is_file():
        raise InputError(f'--data: no such config: {wanted.data}')


@contextmanager
def files_beside(target: Path) -> Iterator[Path]:
    """Gives a place for an export and what belongs to it, which come to a target when all is well.

    In an OpenVINO's the weights come first: whoever finds the last file, finds all.
    """
    with cannot_write(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=target.parent, prefix='.export_')
    with made as folder:
        part = Path(folder) / target.name
        yield part
        weights = [target.with_suffix('.bin')] if target.suffix == '.xml' else []
        with cannot_write(target):
            for file in (*weights, target, description_of(target)):
                os.replace(part.with_name(file.name), file)


@contextmanager
def cannot_write(target: Path) -> Iterator[None]:
    """Makes what the system says of a file one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f'--out: cannot write {target}: {error.strerror or error}') from error


def export_network(
    net: Network,
    photos: Sequence[np.ndarray],
    checkpoint: Path,
    wanted: Wanted,
    opset: int,
    part: Path,
) -> None:
    """Writes a network and its description, and proves them; see `export_checkpoint`."""
    any_size = wanted.dynamic and not is_loop(net, wanted)
    graph = net.graph(wanted.backbone, any_size)
    examples: np.ndarray = np.stack([photos[0], photos[-1]])
    opened = write(graph, net, examples, wanted, opset, part)
    checks = prove(graph, net, opened, examples, wanted)
    about = describe(net, graph, checkpoint, part, any_size, wanted.backbone)
    about |= {'format': wanted.format, 'opset': opset if wanted.format != 'pt2' else None}
    forms: Iterable[dict[str, Any]] = [{'checks': checks}]
    if wanted.int8:
        from scopevit.export.quantize import LIMIT, write_int8  # which imports onnx

        limit = LIMIT if wanted.data is None else 1.0  # metrics tell better
        written = write_int8(part, photos, graph, is_loop(net, wanted), limit)
        known = {'checks of the network in float': checks}
        forms = ({'int8': found | known} for found in written)
    finish(forms, about, checkpoint, wanted, part)


def finish(
    forms: Iterable[dict[str, Any]],
    about: dict[str, Any],
    checkpoint: Path,
    wanted: Wanted,
    part: Path,
) -> None:
    """Describes the first form of an export, beside it, that is as good as the checkpoint.

    Args:
        forms: What is known of a form besides `about`; each is written when it is its turn.
        about: What is known of all forms.
        checkpoint: The checkpoint.
        wanted: What the export is asked for.
        part: Its file.

    Raises:
        InputError: If none is.
    """
    with ExitStack() as stack:
        measure = None
        if wanted.data is not None:
            measure = stack.enter_context(metrics.measuring(wanted.data))
            expected = measure(checkpoint)
        problem = None
        for form in forms:
            described = about | form | {'sha256': hash_files(part)}
            write_json(description_of(part), described)
            if measure is None:
                return
            found = {'config': str(wanted.data), 'checkpoint': expected, 'file': measure(part)}
            problem = metrics.problem(found, wanted.int8)
            if problem is None:
                write_json(description_of(part), described | {'metrics': found})
                return
            print_log(f'--data: {problem}', logger='current')
    raise InputError(f'--data: {problem}')


def check_options(net: Network, wanted: Wanted, opset: int | None) -> int:
    """Returns the opset; raises an InputError for what a task cannot have."""
    task, format = net.recipe.library.task, wanted.format
    dynamic, backbone = wanted.dynamic, wanted.backbone
    traced = is_traced(task, backbone)
    if traced and format == 'pt2':
        raise InputError('--format pt2: detectors cannot be written so; onnx and openvino can')
    if dynamic and format == 'pt2':
        raise InputError('--dynamic: a pt2 has one size; onnx and openvino take any')
    if dynamic and not backbone and task == 'pose':
        raise InputError(
            '--dynamic: a network for pose takes images of one size; classification, '
            'segmentation and --backbone take others'
        )
    is_slide = task == 'segmentation' and net.model.test_cfg.get('mode') == 'slide'
    if dynamic and not backbone and is_slide:
        raise InputError('--dynamic: a segmentation in windows (mode slide) has one size')
    known = TRACED_OPSETS if traced else OPSETS
    opset = opset or (writers.TRACED_OPSET if traced else writers.OPSET)
    if opset not in known:
        raise InputError(f'--opset is {known[0]} to {known[-1]} for {task}, not {opset}')
    return opset


def write(
    graph: Graph, net: Network, examples: np.ndarray, wanted: Wanted, opset: int, path: Path
) -> dict[str, runtimes.Session]:
    """Writes a graph and returns its runtimes by name."""
    format, dynamic = wanted.format, wanted.dynamic
    sessions = {'PyTorch': runtimes.graph_session(graph, graph.outputs)}
    onnx_path = path.with_suffix('.onnx')
    if is_traced(net.recipe.library.task, wanted.backbone):
        writers.write_traced_onnx(graph, torch.from_numpy(examples[:1]), opset, onnx_path)
        if is_loop(net, wanted) and not wanted.int8:  # which is made of the network for one image
            writers.loop_over_images(graph, onnx_path)
    else:
        if dynamic:
            drawn = draw_examples(2, writers.DYNAMIC_SIZE, net.channels)
            program = writers.trace(graph, torch.from_numpy(drawn), dynamic=True)
        else:
            program, graph.takes_many = trace_for_any_number(graph, torch.from_numpy(examples))
        if format == 'pt2':
            torch.export.save(program, path)
            sessions['torch.export'] = runtimes.open_session(path, graph.outputs)
            return sessions
        writers.write_onnx(program, graph.outputs, opset, onnx_path)
    sessions['ONNX Runtime'] = runtimes.open_session(onnx_path, graph.outputs)
    if format == 'openvino':
        writers.write_openvino(onnx_path, wanted.half, path)
    try:
        sessions['OpenVINO'] = runtimes.open_openvino(
            path if format == 'openvino' else onnx_path, graph.outputs
        )
    except RuntimeError as error:
        raise InputError(f'OpenVINO cannot read the network: {error_text(error)}') from error
    return sessions


def is_traced(task: str, backbone: bool) -> bool:
    """Whether a network goes through the older exporter."""
    return task == 'detection' and not backbone


def is_loop(net: Network, wanted: Wanted) -> bool:
    """Whether the file has the network for one image in a loop."""
    return wanted.dynamic and is_traced(net.recipe.library.task, wanted.backbone)


def trace_for_any_number(graph: Graph, images: torch.Tensor) -> tuple[Any, bool]:
    """Returns what `torch.export` makes of a graph, and whether it takes any number of images.

    Some code takes the number for a constant, as that of mmpretrain's Swin: then it takes one.
    """
    try:
        return writers.trace(graph, images), True
    except InputError as first:
        try:
            return writers.trace(graph, images[:1], one=True), False
        except InputError:
            raise first from None


def prove(
    graph: Graph,
    net: Network,
    sessions: dict[str, runtimes.Session],
    examples: np.ndarray,
    wanted: Wanted,
) -> list[dict[str, Any]]:
    """Compares what runtimes and library predict; returns the deviations.

    Raises:
        InputError: If they are too large.
    """
    batches = [examples[i : i + 1] for i in range(len(examples))]
    if graph.takes_many:
        batches = [examples[:1], examples]
    if wanted.dynamic and not is_loop(net, wanted):
        height, width = net.size
        for size in ((height + 32, width + 64), (height // 2 + 17, width + 7)):
            batches.append(draw_examples(1, size, net.channels))
    finds_objects = 'boxes' in graph.outputs  # of each image another number
    checks = []
    for batch in batches:
        if wanted.backbone:
            expected = [maps_of(net, batch, graph)]
        else:
            parts = [image[None] for image in batch] if finds_objects else [batch]
            expected = [net.predict(part) for part in parts]
        for name, session in sessions.items():
            if name == 'PyTorch' and finds_objects and len(batch) > 1:
                continue  # it has no loop
            found = runtimes.run(name, session, batch)
            answers = runtimes.split(found) if finds_objects else [found]
            tolerance = compare.HALF if wanted.half and name == 'OpenVINO' else compare.EXACT
            for one, other in zip(expected, answers, strict=True):
                deviations = compare.compare(one, other)
                check = {'runtime': name, 'images': list(batch.shape), 'deviations': deviations}
                raise_for(check, tolerance)
                checks.append(check)
    return checks


def raise_for(check: Mapping[str, Any], tolerance: compare.Tolerance) -> None:
    """Raises an InputError where a runtime is too far from the library."""
    problem = compare.problem(check['deviations'], tolerance)
    if problem is not None:
        raise InputError(
            f'{check["runtime"]} predicts something else of images {check["images"]}: {problem}'
        )


def maps_of(net: Network, batch: np.ndarray, graph: Graph) -> dict[str, np.ndarray]:
    """Returns the maps of the library's own backbone."""
    with torch.no_grad():
        maps = net.model.backbone(graph.images(torch.from_numpy(batch)))
    return dict(zip(graph.outputs, (x.numpy() for x in maps)))
