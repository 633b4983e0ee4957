"""Counts the parameters and multiply-adds of a model and of its modules.

python tools/benchmark/get_flops.py configs/classification/scopevit-tiny_8xb128_in1k.py
"""

import argparse
import sys

from scopevit.benchmark.complexity import count_complexity
from scopevit.benchmark.networks import from_name
from scopevit.benchmark.table import complexity_table
from scopevit.cli import PositiveInt, add_shape_argument, run_tool


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', help="config file, or timm's name of a model")
    add_shape_argument(parser)
    parser.add_argument(
        '--depth', action=PositiveInt, default=3, help='levels of modules to show. Default: 3'
    )
    args = parser.parse_args(argv)
    network = from_name(args.model, args.shape)
    print(complexity_table(network, count_complexity(network, args.depth)))


if __name__ == '__main__':
    sys.exit(run_tool(main))
