"""Test a checkpoint and write metrics.json to the work dir."""

import argparse

from scopevit.cli import add_common_arguments, set_local_rank
from scopevit.engine import test
from scopevit.hub import config_path

EXAMPLE = 'scopevit test scopevit-tiny_8xb128_in1k work_dirs/mine/epoch_300.pth'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a test."""
    parser.add_argument('config', help='config file, or the name of one that comes along')
    parser.add_argument('checkpoint', help='checkpoint file, or an exported .onnx, .xml')
    parser.add_argument('--out', metavar='PREDICTIONS.pkl', help='write the predictions here')
    parser.add_argument('--show', action='store_true', help='show each prediction in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='write each prediction as an image here')
    parser.add_argument(
        '--tta', action='store_true', help='test time augmentation, where the config has it'
    )
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Tests."""
    set_local_rank(args)
    test(
        config_path(args.config),
        args.checkpoint,
        work_dir=args.work_dir,
        out=args.out,
        show=args.show,
        show_dir=args.show_dir,
        tta=args.tta,
        cfg_options=args.cfg_options,
        launcher=args.launcher,
        trust_pickles=args.trust_pickles,
    )
