"""Times the operators of mmcv that scopevit brings against torchvision's, in turn.

python tools/benchmark/operator_speed.py
"""

import argparse
import sys

from scopevit.benchmark.operator_speed import PAIRS, run_operator_speed
from scopevit.cli import add_device_argument, run_tool


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--operators', nargs='+', metavar='NAME', default=[], help=f'default: {" ".join(PAIRS)}'
    )
    add_device_argument(parser)
    parser.add_argument('--out', default='work_dirs/operator_speed', help='default: %(default)s')
    parser.add_argument(
        '--page', help='Markdown file whose table to replace too, as docs/performance.md'
    )
    args = parser.parse_args(argv)
    print(run_operator_speed(list(dict.fromkeys(args.operators)), args.device, args.out, args.page))


if __name__ == '__main__':
    sys.exit(run_tool(main))
