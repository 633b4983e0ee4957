"""Tests a checkpoint and writes metrics.json to the work dir.

    python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out PREDICTIONS.pkl] [--tta] ...

The config's `default_scope` says which library runs it. With `SCOPEVIT_DEBUG=1` in the environment,
an error shows its whole traceback.
"""

import argparse
import sys

from scopevit.cli import add_common_arguments, parse_arguments, run_tool
from scopevit.engine import test


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', metavar='PREDICTIONS.pkl', help='write the predictions here')
    parser.add_argument('--show', action='store_true', help='show each prediction in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='write each prediction as an image here')
    parser.add_argument(
        '--tta', action='store_true', help='test time augmentation, where the config has it'
    )
    add_common_arguments(parser)
    args = parse_arguments(parser, argv)
    test(
        args.config,
        args.checkpoint,
        work_dir=args.work_dir,
        out=args.out,
        show=args.show,
        show_dir=args.show_dir,
        tta=args.tta,
        cfg_options=args.cfg_options,
        launcher=args.launcher,
    )


if __name__ == '__main__':
    sys.exit(run_tool(main))
