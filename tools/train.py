"""Trains the model of a config.

    python tools/train.py CONFIG [--work-dir DIR] [--pretrained CHECKPOINT] [--resume] [--amp] ...

A CHECKPOINT is a file or a URL. The config's `default_scope` says which library runs it. With
`SCOPEVIT_DEBUG=1` in the environment, an error shows its whole traceback.
"""

import argparse
import sys

from scopevit.cli import add_common_arguments, parse_arguments, run_tool
from scopevit.engine import train


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, by default from the last one in the work dir',
    )
    parser.add_argument(
        '--pretrained',
        metavar='CHECKPOINT',
        help='start with the backbone of this checkpoint, of a classifier or a bare backbone, '
        "ours or the authors'; --resume goes before it once there is a checkpoint in the work dir",
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size'
    )
    parser.add_argument('--no-validate', action='store_true', help='do not validate while training')
    add_common_arguments(parser)
    args = parse_arguments(parser, argv)
    train(
        args.config,
        work_dir=args.work_dir,
        resume=args.resume,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
        validate=not args.no_validate,
        cfg_options=args.cfg_options,
        launcher=args.launcher,
        pretrained=args.pretrained,
    )


if __name__ == '__main__':
    sys.exit(run_tool(main))
