"""Times models: milliseconds a batch and images a second, all models in turn.

OMP_WAIT_POLICY=passive python tools/benchmark/throughput.py CONFIG_OR_TIMM_NAME ...
"""

import argparse
import sys

from scopevit.benchmark.run import run_throughput
from scopevit.benchmark.speed import BATCH_SIZES, SpeedOptions
from scopevit.cli import (
    PositiveFloat,
    PositiveInt,
    add_device_argument,
    add_shape_argument,
    run_tool,
)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'models', nargs='+', metavar='MODEL', help="config files, or timm's names of models"
    )
    parser.add_argument(
        '--batch-sizes',
        nargs='+',
        action=PositiveInt,
        metavar='N',
        help='default: 1 8, on a GPU also 64 256',
    )
    add_shape_argument(parser)
    add_device_argument(parser)
    parser.add_argument('--compile', action='store_true', help='compile with torch.compile')
    parser.add_argument('--channels-last', action='store_true', help='store channels last')
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: bfloat16 on CPU, float16 on GPU'
    )
    parser.add_argument(
        '--max-minutes', action=PositiveFloat, default=1.0, metavar='N', help='default: 1'
    )
    args = parser.parse_args(argv)
    options = SpeedOptions(
        batch_sizes=args.batch_sizes or BATCH_SIZES[args.device],
        device=args.device,
        compile=args.compile,
        channels_last=args.channels_last,
        amp=args.amp,
    )
    print(run_throughput(args.models, args.shape, options, args.max_minutes))


if __name__ == '__main__':
    sys.exit(run_tool(main))
