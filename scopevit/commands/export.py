"""Export a checkpoint to ONNX, OpenVINO or torch.export, and prove the file."""

import argparse

from scopevit.cli import PositiveInt
from scopevit.export import export_checkpoint

EXAMPLE = 'scopevit export work_dirs/mine/epoch_10.pth --format onnx --images photos'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of an export."""
    parser.add_argument('checkpoint', help='checkpoint file, which has its config in it')
    parser.add_argument('--format', default='onnx', help='onnx, openvino or pt2; default: onnx')
    parser.add_argument('--out', metavar='FILE', help='default: beside the checkpoint')
    parser.add_argument('--dynamic', action='store_true', help='images of any size')
    parser.add_argument('--backbone', action='store_true', help='the backbone alone')
    parser.add_argument(
        '--size',
        nargs=2,
        action=PositiveInt,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the images; default: what the test pipeline makes of them',
    )
    parser.add_argument('--images', metavar='DIR', help='compare predictions of these images')
    parser.add_argument('--half', action='store_true', help='OpenVINO: weights in half precision')
    parser.add_argument('--opset', action=PositiveInt, metavar='N', help='of ONNX')
    parser.add_argument('--config', help='config file instead of the one in the checkpoint')


def run(args: argparse.Namespace) -> None:
    """Runs an export, and prints the file."""
    options = {name: value for name, value in vars(args).items() if name != 'checkpoint'}
    print(export_checkpoint(args.checkpoint, **options))
