"""Graphs into files of ONNX, OpenVINO and torch.export."""

import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from scopevit.errors import InputError, error_text
from scopevit.export.graphs import Graph

INT64 = 7  # the number of the type in ONNX
OPSET = 20  # of files by dynamo
TRACED_OPSET = 17  # of detectors
# At this size, ScopeViT's maps hold several dilated groups at every stage: of a smaller one, the
# exporter would take what holds for one group for a rule.
DYNAMIC_SIZE = (608, 864)
# What each runtime needs, in the order in which it is asked for.
NEEDED = {
    'onnx': ('onnx', 'onnxscript', 'onnxruntime', 'openvino'),
    'openvino': ('onnx', 'onnxscript', 'onnxruntime', 'openvino'),
    'pt2': (),
}


def need(*modules: str) -> None:
    """Raises an InputError that says what to install where modules are missing."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f'{name} is not installed: pip install {name}, or all of an export by '
                'pip install -r requirements/export.txt'
            ) from error


def trace(graph: Graph, images: torch.Tensor, dynamic: bool = False, one: bool = False) -> Any:
    """Returns what `torch.export` makes of a graph.

    Args:
        graph: The network.
        images: For any number, two or more: of one, it would take the number for a constant.
        dynamic: Whether height and width may be others, too; images are then of `DYNAMIC_SIZE`.
        one: Whether it is for one image at a time.
    """
    axes = (0, 1, 2) if dynamic else () if one else (0,)
    dims = {axis: torch.export.Dim.DYNAMIC for axis in axes}
    with exporting(), torch.no_grad():
        return torch.export.export(graph, (images,), dynamic_shapes=(dims,), strict=False)


def write_onnx(program: Any, outputs: tuple[str, ...], opset: int, path: Path) -> None:
    """Writes what `trace` returns as ONNX."""
    with exporting(), torch.no_grad():
        torch.onnx.export(
            program,
            f=path,
            dynamo=True,
            opset_version=opset,
            input_names=['images'],
            output_names=list(outputs),
            external_data=False,
            verbose=False,
        )


def write_traced_onnx(graph: Graph, images: torch.Tensor, opset: int, path: Path) -> None:
    """Writes a detector as ONNX, of one image of one size, by tracing.

    `torch.export` stops where its code asks numbers (mmdet 3.3: whether boxes are large enough).
    """
    from scopevit.export.detection import traceable

    symbolics = (roi_align_symbolic(opset), nms_symbolic(opset))
    with exporting(), traceable(graph), symbolics[0], symbolics[1], torch.no_grad():
        if not len(graph(images)[0]):
            # What is left out where nothing is found, as NMS, would be missing in the file.
            raise InputError(
                'nothing is found in the first image: name a folder of others by --images'
            )
        torch.onnx.export(
            graph,
            (images,),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=['images'],
            output_names=list(graph.outputs),
            dynamic_axes={name: {0: 'objects'} for name in graph.outputs},
        )


def loop_over_images(graph: Graph, path: Path) -> None:
    """Makes a detector for any number of images of a file, in place, and of its graph.

    Raises:
        InputError: If it has no limit of objects.
    """
    from scopevit.export import batches  # which imports onnx

    if graph.most is None:
        raise InputError('--dynamic: of this detector, test_cfg has no max_per_img above 0')
    batches.loop_file(path, graph.most)
    graph.takes_many = True


@contextmanager
def roi_align_symbolic(opset: int) -> Iterator[None]:
    """Writes torchvision's RoIAlign as that of ONNX.

    torchvision 0.29's own symbolic has a Squeeze that opsets from 13 refuse.
    """
    import torchvision  # noqa: F401  # registers its own first
    from torch.onnx import symbolic_helper

    @symbolic_helper.parse_args('v', 'v', 'f', 'i', 'i', 'i', 'i')
    def roi_align(
        g: Any, x: Any, rois: Any, scale: float, height: int, width: int, ratio: int, aligned: int
    ) -> Any:
        index = g.op('Gather', rois, g.op('Constant', value_t=torch.tensor(0)), axis_i=1)
        index = g.op('Cast', index, to_i=INT64)
        start, end, axis = (g.op('Constant', value_t=torch.tensor([i])) for i in (1, 5, 1))
        boxes = g.op('Slice', rois, start, end, axis)
        # OpenVINO asks for the four numbers of a box.
        boxes = g.op('Reshape', boxes, g.op('Constant', value_t=torch.tensor([-1, 4])))
        return g.op(
            'RoiAlign', x, boxes, index,
            coordinate_transformation_mode_s='half_pixel' if aligned else 'output_half_pixel',
            spatial_scale_f=scale, output_height_i=height, output_width_i=width,
            sampling_ratio_i=max(ratio, 0),
        )  # fmt: skip

    torch.onnx.register_custom_op_symbolic('torchvision::roi_align', roi_align, opset)
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic('torchvision::roi_align', opset)


@contextmanager
def nms_symbolic(opset: int) -> Iterator[None]:
    """Writes torchvision's NMS as that of ONNX, with shapes that OpenVINO asks for.

    torchvision 0.29's own symbolic leaves the four numbers of a box to be found out, and OpenVINO
    2026.4 refuses what it cannot find.
    """
    import torchvision  # noqa: F401  # registers its own first
    from torch.onnx import symbolic_helper

    @symbolic_helper.parse_args('v', 'v', 'f')
    def nms(g: Any, boxes: Any, scores: Any, threshold: float) -> Any:
        def constant(*values: float) -> Any:
            return g.op('Constant', value_t=torch.tensor(values))

        kept = g.op(
            'NonMaxSuppression',
            g.op('Reshape', boxes, constant(1, -1, 4)),
            g.op('Reshape', scores, constant(1, 1, -1)),
            constant(sys.maxsize),
            constant(threshold),
        )  # (M, 3): image, class and box
        return g.op('Gather', kept, g.op('Constant', value_t=torch.tensor(2)), axis_i=1)

    torch.onnx.register_custom_op_symbolic('torchvision::nms', nms, opset)
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic('torchvision::nms', opset)


def write_openvino(onnx_path: Path, half: bool, path: Path) -> None:
    """Writes an ONNX file as OpenVINO's .xml and .bin."""
    import openvino

    openvino.save_model(openvino.convert_model(onnx_path), path, compress_to_fp16=half)


@contextmanager
def exporting() -> Iterator[None]:
    """Silences what exporters say of tracing, and makes their failures one line."""
    with quiet():
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            raise InputError(f'this network cannot be exported: {error_text(error)}') from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences warnings, also those that are logged."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)
