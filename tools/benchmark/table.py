"""Measures size, speed and memory of models, and puts them beside published results.

    OMP_WAIT_POLICY=passive python tools/benchmark/table.py configs/classification

A folder stands for every recipe in it. Tables and plots go to work_dirs/benchmark. Speeds on the
CPU depend on the OpenMP wait policy, which the report records.
"""

import argparse
import sys

from scopevit.benchmark.run import run_benchmark
from scopevit.cli import PositiveFloat, add_shape_argument, run_tool


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help='config files or folders')
    parser.add_argument('--timm', nargs='+', default=[], metavar='NAME', help='models of timm')
    parser.add_argument(
        '--published',
        metavar='FILE',
        help='published results to compare with, as in tools/benchmark/published.yml',
    )
    parser.add_argument(
        '--work-dirs',
        metavar='DIR',
        help='where to look for metrics.json files, at any depth; all of configs of one name count '
        'as runs of one recipe, and are averaged. Default: work_dirs, if it is there',
    )
    parser.add_argument('--out', default='work_dirs/benchmark', metavar='DIR', help='for results')
    parser.add_argument(
        '--device',
        choices=['cpu', 'cuda'],
        help='default: cpu, and cuda as well where there is a GPU',
    )
    add_shape_argument(parser)
    parser.add_argument('--no-speed', action='store_true', help='leave out the speed')
    parser.add_argument(
        '--max-minutes',
        action=PositiveFloat,
        default=9.0,
        metavar='N',
        help='begin no round of speed that would end later; there is one in any case. Default: 9',
    )
    parser.add_argument(
        '--max-batch-seconds',
        action=PositiveFloat,
        default=4.0,
        metavar='N',
        help='halve a batch that would take longer, or not fit into a GPU. Default: 4',
    )
    parser.add_argument(
        '--plot',
        choices=['metric', 'throughput'],
        help='what to plot against multiply-adds; default: the metric where there is one',
    )
    args = parser.parse_args(argv)
    report = run_benchmark(
        args.configs,
        timm_names=args.timm,
        published=args.published,
        work_dirs=args.work_dirs,
        out=args.out,
        size=args.shape,
        device=args.device,
        max_batch_seconds=args.max_batch_seconds,
        speed=not args.no_speed,
        max_minutes=args.max_minutes,
        plot=args.plot,
    )
    print(report)


if __name__ == '__main__':
    sys.exit(run_tool(main))
