"""Draws loss and metric curves of one or more trainings, and prints a summary of each.

    python tools/analysis_tools/analyze_logs.py WORK_DIR ... [--keys loss lr accuracy/top1] ...

With `SCOPEVIT_DEBUG=1` in the environment, an error shows its whole traceback.
"""

import argparse
import sys

from scopevit.analysis.logs import analyze
from scopevit.cli import run_tool


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'logs',
        nargs='+',
        metavar='LOG_OR_WORK_DIR',
        help='a work dir, whose resumed trainings are joined, or one log (scalars.json)',
    )
    parser.add_argument(
        '--keys', nargs='+', help='what to draw (default: loss and the main metrics of the task)'
    )
    parser.add_argument('--labels', nargs='+', metavar='NAME', help='a name for each log')
    parser.add_argument(
        '--out', metavar='FILE', help='.png or .svg (default: curves.png beside the first log)'
    )
    parser.add_argument(
        '--smooth',
        type=int,
        default=1,
        metavar='N',
        help='average over N logged values of training (default: 1)',
    )
    args = parser.parse_args(argv)
    path, summary = analyze(
        args.logs, keys=args.keys, labels=args.labels, out=args.out, smooth=args.smooth
    )
    print(summary)
    print(f'curves: {path}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
