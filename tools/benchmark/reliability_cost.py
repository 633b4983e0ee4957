"""Times what a training pays for its checkpoints and its checks.

python tools/benchmark/reliability_cost.py CONFIG [--batch-size N]
"""

import argparse
import sys

from scopevit.benchmark.reliability_cost import run_reliability_cost
from scopevit.cli import PositiveInt, run_tool
from scopevit.config_options import ConfigOptions


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', metavar='CONFIG', help="a classifier's recipe")
    parser.add_argument(
        '--batch-size',
        action=PositiveInt,
        default=8,
        metavar='N',
        help="images of a step, in place of the recipe's; default: %(default)s",
    )
    parser.add_argument('--out', default='work_dirs/reliability_cost', help='default: %(default)s')
    parser.add_argument(
        '--page', help='Markdown file whose tables to replace too, as docs/reliability.md'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE',
        help='changes of the config',
    )  # fmt: skip
    args = parser.parse_args(argv)
    print(run_reliability_cost(args.config, args.batch_size, args.out, args.page, args.cfg_options))


if __name__ == '__main__':
    sys.exit(run_tool(main))
