"""Check the data and the model of a config before a training."""

import argparse

from scopevit.cli import add_config_options
from scopevit.hub import config_path
from scopevit.preflight.run import run_check

EXAMPLE = 'scopevit check scopevit-tiny_8xb128_in1k --out check.png'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a check."""
    parser.add_argument('config', help='config file, or the name of one that comes along')
    parser.add_argument(
        '--quick', action='store_true', help='look at annotations alone, in seconds; no picture'
    )
    parser.add_argument(
        '--out', metavar='FILE.png', help='picture to draw; default: check.png in the work dir'
    )
    parser.add_argument('--json', metavar='FILE', help='write what was found here, too')
    parser.add_argument('--work-dir', help='default: work_dirs/<name of the config>')
    add_config_options(parser)


def run(args: argparse.Namespace) -> int:
    """Checks; returns the exit code, 1 where something is an error."""
    return run_check(
        config_path(args.config),
        cfg_options=args.cfg_options,
        work_dir=args.work_dir,
        out=args.out,
        quick=args.quick,
        json_path=args.json,
    )
