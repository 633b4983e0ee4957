"""Eight bits for a network in ONNX: calibrated on images, what suffers from it left as it is."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.calibrate import CalibraterBase
from onnxruntime.quantization.shape_inference import quant_pre_process

from scopevit.errors import InputError, error_text
from scopevit.export import compare, writers
from scopevit.export.graphs import Graph
from scopevit.export.runtimes import Session, open_onnx, open_openvino, split

QUANTIZED = ('Conv', 'MatMul', 'Gemm')
DEQUANTIZED = '_DequantizeLinear_Output'  # the end of ONNX Runtime's names of tensors
PARTS = 8  # of the network, from its images to its answers, that are tried one by one
RANKED_ON = 8  # images at most, for which part suffers most
ROUNDS = 11  # of timing
LIMIT = 0.01  # share of the answers that may become others


def write_int8(
    part: Path, images: Sequence[np.ndarray], graph: Graph, loops: bool, limit: float = LIMIT
) -> Iterator[dict[str, Any]]:
    """Replaces a network by its 8-bit form, for the runtime of its file.

    Yields after each form, of which every next one has more layers in float, what `quantize` found
    and the milliseconds of an image in float and in 8 bits.

    Args:
        part: File of ONNX or OpenVINO, in a folder of its own with the network in float as ONNX.
        images: (H, W, C) each.
        graph: The network.
        loops: Whether the file has it in a loop over images.
        limit: Share of the answers that may become others.
    """
    opener = open_onnx if part.suffix == '.onnx' else open_openvino
    outputs = graph.outputs
    path = part.with_suffix('.onnx')
    float_path = Path(shutil.move(path, path.with_name('float.onnx')))
    for found in quantize(float_path, images, outputs, path, opener, limit):
        forms = {'float': float_path, '8 bits': path}
        sessions = {name: opener(file, outputs) for name, file in forms.items()}
        found['milliseconds'] = time_in_turn(sessions, images[0][None])
        if loops:
            writers.loop_over_images(graph, path)
        if part.suffix == '.xml':
            for old in (part, part.with_suffix('.bin')):
                old.unlink(missing_ok=True)  # a session may have the weights mapped
            writers.write_openvino(path, False, part)
        check_saved(sessions['8 bits'], opener(part, outputs), images, loops, limit)
        yield found


def check_saved(
    expected: Session, session: Session, images: Sequence[np.ndarray], loops: bool, limit: float
) -> None:
    """Raises an InputError where a file answers otherwise than the network that it was made of.

    8 bits may be rounded in another way in a loop over images than outside of it.
    """
    if loops:
        several = (images[0], images[-1])
        answers = split(session(np.stack(several)))
        shares = [changed(expected(i[None]), one) for i, one in zip(several, answers, strict=True)]
    else:
        batch = images[0][None]
        shares = [changed(expected(batch), session(batch))]
    if not max(shares) <= limit:
        raise InputError(f'--int8: {max(shares):.1%} of the answers change by saving')


def time_in_turn(sessions: Mapping[str, Session], batch: np.ndarray) -> dict[str, float]:
    """Returns the median milliseconds of some sessions, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            start = time.perf_counter()
            session(batch)
            seconds[name].append(time.perf_counter() - start)
    return {name: round(1000 * median(values), 3) for name, values in seconds.items()}


@dataclass(frozen=True)
class Quantizer:
    """Makes 8-bit forms of a network.

    Args:
        original: The network in float.
        full: The same with every layer in 8 bits.
    """

    original: onnx.ModelProto
    full: onnx.ModelProto

    def save(self, kept: set[str], path: Path) -> None:
        """Writes the network with some layers, by name, in float."""
        onnx.save(with_float(self.full, self.original, kept), path)


def quantize(
    float_path: Path,
    images: Sequence[np.ndarray],
    outputs: Sequence[str],
    path: Path,
    opener: Callable[[Path, Sequence[str]], Session] = open_onnx,
    limit: float = LIMIT,
) -> Iterator[dict[str, Any]]:
    """Writes a network with 8-bit weights and activations, for each form that it yields.

    All layers are in 8 bits first, unless too many answers change. Then parts of the network go
    back to float one after the other, those first that change most of them on their own.

    Yields what was found: the share of answers that change, and which layers stay in float.

    Args:
        float_path: The network in float32, ONNX.
        images: (H, W, C) each; every other one calibrates, the rest measure.
        outputs: Names of its outputs.
        path: ONNX file to write.
        opener: Opens an ONNX file in the runtime that it is for.
        limit: Share of the answers that may become others.

    Raises:
        InputError: If no part can be in 8 bits.
    """
    quantizer = make_quantizer(float_path, images[::2])
    probes = images[1::2]
    session = opener(float_path, outputs)
    expected = [session(image[None]) for image in probes]

    def share_of_changed(kept: set[str], most: int | None = None) -> float:
        quantizer.save(kept, path)
        run = opener(path, outputs)
        pairs = zip(expected[:most], probes)
        return float(np.mean([changed(answers, run(image[None])) for answers, image in pairs]))

    def found(share: float, kept: set[str]) -> dict[str, Any]:
        return {
            'images': len(images),
            'share of changed answers, all layers in 8 bits': first,
            'share of changed answers': share,
            'layers in 8 bits': len(layers) - len(kept),
            'layers in float': sorted(kept),
        }

    parts = parts_of(quantizer.original)
    layers = set().union(*parts)
    first = share_of_changed(set())
    is_any = first <= limit
    if is_any:
        yield found(first, set())
    alone = [share_of_changed(layers - part, RANKED_ON) for part in parts]
    kept: set[str] = set()
    for i in np.argsort(alone)[:0:-1]:  # all but the last
        kept |= parts[i]
        share = share_of_changed(kept)
        if share <= limit:  # NaN is not
            yield found(share, kept)
            is_any = True
    if not is_any:
        raise InputError(
            f'--int8: each part of the network changes over {limit:.0%} of the answers, or gives '
            'what is no number'
        )


class Reader(CalibrationDataReader):
    """Gives images to a calibration, one at a time."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self.images: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {'images': image[None]}


def make_quantizer(path: Path, images: Sequence[np.ndarray]) -> Quantizer:
    """Calibrates a network on images.

    Raises:
        InputError: If ONNX Runtime cannot do it.
    """
    at_once = patch.object(CalibraterBase, 'create_inference_session', open_calibrated)
    # They say that the network should be prepared, as it is.
    with writers.quiet(), at_once, tempfile.TemporaryDirectory() as folder:
        plain, full = Path(folder, 'float.onnx'), Path(folder, 'int8.onnx')
        try:
            quant_pre_process(path, plain, skip_symbolic_shape=True)  # folds batch norms
            original = onnx.load(plain)
            for i, node in enumerate(original.graph.node):
                node.name = f'{i}_{node.op_type}'
            onnx.save(original, plain)
            quantize_static(
                plain, full, Reader(images), quant_format=QuantFormat.QDQ, per_channel=True,
                weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
                op_types_to_quantize=list(QUANTIZED),
            )  # fmt: skip
        except Exception as error:  # whatever stops it
            raise InputError(f'--int8: ONNX Runtime cannot do it: {error_text(error)}') from error
        return Quantizer(original, onnx.load(full))


def open_calibrated(calibrater: CalibraterBase) -> None:
    """Opens a network whose tensors' ranges are found, in the place of the calibrater's own way.

    The nodes that find them come last in ONNX Runtime's own order, until when all tensors are kept:
    those of an attention of 1024² take more than 22 GB, as they run here 4 GB.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    # As theirs: what is fused has no range.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.enable_cpu_mem_arena = False  # which would grow to twice what is asked for
    path, providers = calibrater.augmented_model_path, calibrater.execution_providers
    calibrater.infer_session = onnxruntime.InferenceSession(path, options, providers=providers)


def parts_of(model: onnx.ModelProto) -> list[set[str]]:
    """Returns the names of the layers that become 8-bit, in parts, from the images on."""
    names = [node.name for node in model.graph.node if node.op_type in QUANTIZED]
    size = -(-len(names) // PARTS)
    return [set(names[i : i + size]) for i in range(0, len(names), size)]


def with_float(
    quantized: onnx.ModelProto, original: onnx.ModelProto, names: set[str]
) -> onnx.ModelProto:
    """Returns a quantised network some of whose layers, by name, are as they were in float."""
    model = onnx.ModelProto()
    model.CopyFrom(quantized)
    theirs = {node.name: node for node in original.graph.node if node.name in names}
    restored = {name for node in theirs.values() for name in node.output}
    before = {node.output[0]: node.input[0] for node in model.graph.node if node.input}
    for node in model.graph.node:
        if node.name in theirs:
            node.input[:] = theirs[node.name].input
        elif node.op_type not in ('QuantizeLinear', *QUANTIZED):
            # What a layer in float gives goes through 8 bits for layers that take them alone.
            for i, name in enumerate(node.input):
                tensor = before.get(before.get(name, ''), '')
                if name.endswith(DEQUANTIZED) and tensor in restored:
                    node.input[i] = tensor
    # A bias, kept in 32 bits, comes out of a node that has its name.
    known = {one.name for one in model.graph.initializer} | set(before)
    needed = {name for node in theirs.values() for name in node.input} - known
    model.graph.initializer.extend(w for w in original.graph.initializer if w.name in needed)
    return without_unused(model)


def without_unused(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a network without the nodes and weights that no output depends on."""
    outputs = {output.name for output in model.graph.output}
    nodes = list(model.graph.node)
    while True:
        used = outputs | names_used(nodes)
        kept = [node for node in nodes if used & set(node.output)]
        if len(kept) == len(nodes):
            break
        nodes = kept
    weights = {one.name: one for one in model.graph.initializer if one.name in used}
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.graph.ClearField('node')
    rest.graph.node.extend(nodes)
    rest.graph.ClearField('initializer')
    rest.graph.initializer.extend(weights.values())
    return rest


def names_used(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Returns the tensors that nodes, and those of graphs inside them, take."""
    used: set[str] = set()
    for node in nodes:
        used |= set(node.input)
        for attribute in node.attribute:
            if attribute.HasField('g'):
                used |= names_used(attribute.g.node)
                used |= {output.name for output in attribute.g.output}
    return used


def changed(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> float:
    """Returns which share of the answers to an image is another.

    Of a classification, how far the probabilities moved (total variation); of a segmentation, of
    the pixels; of poses, of the keypoints, of those that moved by more than 2 % of the larger side;
    of objects, of their scores, of those without a partner of their class that overlaps by three
    quarters.
    """
    if 'probabilities' in expected:
        difference = np.abs(expected['probabilities'] - found['probabilities'])
        return float(difference.sum() / 2 / len(difference))
    if 'classes' in expected:
        return float((expected['classes'] != found['classes']).mean())
    if 'keypoints' in expected:
        span = np.ptp(expected['keypoints'], axis=(0, 1)).max()
        moved = np.linalg.norm(expected['keypoints'] - found['keypoints'], axis=2)
        return float((~(moved <= 0.02 * max(span, 1))).mean())
    return 1 - compare.share_of_matched_scores(expected, found)
