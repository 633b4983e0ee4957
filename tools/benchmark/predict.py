"""Predicts memory and the most images a second of training on GPUs, without one.

    python tools/benchmark/predict.py configs/detection

A folder stands for every recipe in it; without any, all recipes of ScopeViT are predicted. Table
and numbers go to work_dirs/predict. It takes a torch that is built for CUDA.
"""

import argparse
import sys

from scopevit.benchmark.predict_table import run_predict
from scopevit.cli import add_shape_argument, run_tool


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help='config files or folders')
    add_shape_argument(parser)
    parser.add_argument('--out', default='work_dirs/predict', metavar='DIR', help='for results')
    parser.add_argument('--page', help='Markdown file whose table to replace too, as docs/gpu.md')
    args = parser.parse_args(argv)
    print(run_predict(args.configs, size=args.shape, out=args.out, page=args.page))


if __name__ == '__main__':
    sys.exit(run_tool(main))
