"""Detectors for any number of images: the network for one of them in a loop of ONNX."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, compose, helper
from onnx.parser import parse_node

ONE = 'one_'  # before all names in the loop, which must not be those around it
ABSENT = {'labels': -1}  # where there are no more objects; in the other outputs 0


def loop_file(path: Path, most: int) -> None:
    """Replaces a file by what `loop_over_images` makes of it."""
    onnx.save(loop_over_images(onnx.load(path), most), path)


def loop_over_images(model: onnx.ModelProto, most: int) -> onnx.ModelProto:
    """Returns a detector of any number of images, made of one that takes one.

    mmdet's code goes through the images one by one, too. What each gives is filled up to the same
    number of objects, because a loop of ONNX stacks what its turns give.

    Args:
        model: Takes `images`, (1, H, W, C); axis 0 of its outputs, `labels` among them, are
            objects.
        most: Objects that it finds at most.

    Returns:
        The network: `images` are (N, H, W, C), its outputs, of the same names, (N, `most`, ...),
        and `labels` are -1 where there is no object.
    """
    outputs = [Output(value, most) for value in model.graph.output]
    loop = helper.make_node(
        'Loop',
        ['count', ''],
        [output.stacked for output in outputs],
        body=loop_body(model.graph, outputs, most),
    )
    images = onnx.ValueInfoProto()
    images.CopyFrom(model.graph.input[0])
    images.type.tensor_type.shape.dim[0].dim_param = 'batch'
    nodes = [
        parse_node('shape = Shape <start = 0, end = 1> (images)'),
        parse_node('count = Squeeze(shape)'),
        loop,
        *(parse_node(text) for output in outputs for text in output.after()),
    ]
    graph = helper.make_graph(nodes, 'batch', [images], [output.value() for output in outputs])
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def loop_body(one: onnx.GraphProto, outputs: list['Output'], most: int) -> onnx.GraphProto:
    """Returns what a loop does with an image; see `loop_over_images`."""
    body = compose.add_prefix_graph(one, ONE)
    nodes = [
        'first = Constant <value = int64[1] {0}> ()',
        'index = Unsqueeze(turn, first)',
        f'{ONE}images = Gather <axis = 0> (images, index)',
        *(body.node),
        'still = Identity(going_on)',
        f'found = Shape <end = 1> ({ONE}labels)',
        f'most = Constant <value = int64[1] {{{most}}}> ()',
        'missing = Sub(most, found)',
        *(text for output in outputs for text in output.fill()),
    ]
    made = [parse_node(node) if isinstance(node, str) else node for node in nodes]
    body.ClearField('node')
    body.node.extend(made)
    body.ClearField('input')
    body.input.append(helper.make_tensor_value_info('turn', TensorProto.INT64, []))
    body.input.append(helper.make_tensor_value_info('going_on', TensorProto.BOOL, []))
    body.ClearField('output')
    body.output.append(helper.make_tensor_value_info('still', TensorProto.BOOL, []))
    body.output.extend(output.filled_value() for output in outputs)
    return body


class Output:
    """An output of a detector, on its way out of the loop.

    Args:
        one: What the network for one image says of it.
        most: Objects, with those that are filled up.

    Attributes:
        stacked: Its name where it comes out of the loop.
    """

    def __init__(self, one: onnx.ValueInfoProto, most: int) -> None:
        self.name = one.name
        tensor = one.type.tensor_type
        self.kind = tensor.elem_type
        self.sides = [most, *(dim.dim_value or None for dim in list(tensor.shape.dim)[1:])]
        self.stacked = f'{self.name}_stacked' if self.is_bool else self.name

    @property
    def is_bool(self) -> bool:
        """Whether it is, and goes through the loop as uint8.

        OpenVINO 2026.4 gives arrays of other shapes where bool comes out of a loop, or a Cast
        follows.
        """
        return self.kind == TensorProto.BOOL

    @property
    def number(self) -> int:
        """Its type in the loop."""
        return TensorProto.UINT8 if self.is_bool else self.kind

    def fill(self) -> Iterator[str]:
        """Yields the nodes that fill it up, in the loop."""
        name, source = self.name, f'{ONE}{self.name}'
        if self.is_bool:
            yield f'{name}_number = Cast <to = {self.number}> ({source})'
            source = f'{name}_number'
        zeros = ', '.join('0' * len(self.sides))
        yield f'{name}_before = Constant <value = int64[{len(self.sides)}] {{{zeros}}}> ()'
        parts = f'{name}_before, missing'
        if len(self.sides) > 1:
            rest = len(self.sides) - 1
            zeros = ', '.join('0' * rest)
            yield f'{name}_rest = Constant <value = int64[{rest}] {{{zeros}}}> ()'
            parts += f', {name}_rest'
        yield f'{name}_pads = Concat <axis = 0> ({parts})'
        absent = ABSENT.get(name, 0)
        yield f'{name}_long = Constant <value = int64 {{{absent}}}> ()'
        yield f'{name}_absent = Cast <to = {self.number}> ({name}_long)'
        yield f'{name}_filled = Pad({source}, {name}_pads, {name}_absent)'

    def filled_value(self) -> onnx.ValueInfoProto:
        """Returns what the loop's graph says of it."""
        return helper.make_tensor_value_info(f'{self.name}_filled', self.number, self.sides)

    def after(self) -> Iterator[str]:
        """Yields the nodes after the loop."""
        if self.is_bool:
            yield f'{self.name}_zero = Constant <value = uint8 {{0}}> ()'
            yield f'{self.name} = Greater({self.stacked}, {self.name}_zero)'

    def value(self) -> onnx.ValueInfoProto:
        """Returns what the network says of it."""
        return helper.make_tensor_value_info(self.name, self.kind, ['batch', *self.sides])
