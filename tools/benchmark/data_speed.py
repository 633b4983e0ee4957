"""Times the pipeline of a recipe's training data, step by step, against what the model takes.

python tools/benchmark/data_speed.py CONFIG [--images DIR] [--gpu-images-per-second NUMBER]
"""

import argparse
import sys

from scopevit.benchmark.data_speed import run_data_speed
from scopevit.cli import run_tool
from scopevit.config_options import ConfigOptions


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', metavar='CONFIG', help='the recipe')
    parser.add_argument(
        '--images',
        metavar='DIR',
        help="photographs in place of the recipe's own data set, annotated at random",
    )
    parser.add_argument(
        '--gpu-images-per-second',
        type=float,
        metavar='NUMBER',
        help='what one GPU trains on, as measured elsewhere; by default what the GPU here takes',
    )
    parser.add_argument('--out', default='work_dirs/data_speed', help='default: %(default)s')
    parser.add_argument(
        '--page', help='Markdown file whose tables to replace too, as docs/performance.md'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE',
        help='changes of the config',
    )  # fmt: skip
    args = parser.parse_args(argv)
    print(
        run_data_speed(
            args.config,
            args.images,
            args.gpu_images_per_second,
            args.out,
            args.page,
            args.cfg_options,
        )
    )


if __name__ == '__main__':
    sys.exit(run_tool(main))
