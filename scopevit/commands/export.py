"""Export a checkpoint to ONNX, OpenVINO or torch.export, and prove the file."""

import argparse
import signal

from scopevit.cli import PositiveInt, add_shape_argument
from scopevit.export import export_checkpoint
from scopevit.export.export import ENDINGS

EXAMPLE = 'scopevit export work_dirs/mine/epoch_10.pth --format onnx --images photos'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of an export."""
    parser.add_argument('checkpoint', help='checkpoint file, which has its config in it')
    parser.add_argument('--format', choices=ENDINGS, default='onnx', help='default: onnx')
    parser.add_argument('--out', metavar='FILE', help='default: beside the checkpoint')
    parser.add_argument(
        '--dynamic', action='store_true', help='images of any size; of a detector, any number'
    )
    parser.add_argument('--backbone', action='store_true', help='the backbone alone')
    add_shape_argument(parser, default='what the test pipeline makes of them')
    parser.add_argument('--images', metavar='DIR', help='compare predictions of these images')
    parser.add_argument(
        '--data', metavar='CONFIG', help='run the test of this config by both, for the metrics'
    )
    parser.add_argument('--half', action='store_true', help='OpenVINO: weights in half precision')
    parser.add_argument(
        '--int8', action='store_true', help='weights and activations in 8 bits, by --images'
    )
    parser.add_argument('--opset', action=PositiveInt, metavar='N', help='of ONNX')
    parser.add_argument('--config', help='config file instead of the one in the checkpoint')


def run(args: argparse.Namespace) -> None:
    """Runs an export, and prints the file."""
    # Ends as Ctrl-C does, for the files begun to go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    path = export_checkpoint(
        args.checkpoint,
        format=args.format,
        out=args.out,
        dynamic=args.dynamic,
        backbone=args.backbone,
        size=tuple(args.shape) if args.shape else None,
        images=args.images,
        half=args.half,
        opset=args.opset,
        config=args.config,
        data=args.data,
        int8=args.int8,
    )
    print(path)
