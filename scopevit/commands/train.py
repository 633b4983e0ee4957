"""Train the model of a config."""

import argparse

from scopevit.cli import PositiveFloat, PositiveInt, add_common_arguments, set_local_rank
from scopevit.engine import train
from scopevit.hub import config_path

EXAMPLE = 'scopevit train scopevit-tiny_8xb128_in1k --work-dir work_dirs/mine --amp'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a training."""
    parser.add_argument('config', help='config file, or the name of one that comes along')
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
    parser.add_argument(
        '--accumulate',
        action=PositiveInt,
        default=1,
        metavar='N',
        help='take N batches a step, for batches that are N times as large as fit into memory',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size'
    )
    parser.add_argument(
        '--skip-bad-samples',
        action=PositiveInt,
        default=0,
        metavar='N',
        help='leave out up to N samples that cannot be loaded; by default the first ends all',
    )
    parser.add_argument(
        '--skip-nan',
        action=PositiveInt,
        default=0,
        metavar='N',
        help='leave out up to N steps whose loss is NaN or infinite; by default the first ends all',
    )
    parser.add_argument(
        '--watchdog',
        action=PositiveFloat,
        metavar='SECONDS',
        help='write where each process hangs, when no step has ended for so long',
    )
    parser.add_argument(
        '--save-in-background',
        action='store_true',
        help='write checkpoints while training goes on, which waits for a copy in memory',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not validate while training')
    parser.add_argument(
        '--log',
        choices=['tensorboard', 'wandb', 'mlflow'],
        help='log there, too, by the package of that name',
    )
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Trains."""
    set_local_rank(args)
    train(
        config_path(args.config),
        work_dir=args.work_dir,
        resume=args.resume,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
        validate=not args.no_validate,
        cfg_options=args.cfg_options,
        launcher=args.launcher,
        pretrained=args.pretrained,
        log=args.log,
        accumulate=args.accumulate,
        watchdog=args.watchdog,
        skip_nan=args.skip_nan,
        skip_bad_samples=args.skip_bad_samples,
        save_in_background=args.save_in_background,
        trust_pickles=args.trust_pickles,
    )
