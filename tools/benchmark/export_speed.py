"""Times checkpoints and ScopeViT-tiny in PyTorch, ONNX Runtime and OpenVINO, also in 8 bits.

python tools/benchmark/export_speed.py [CHECKPOINT ... --images DIR ...]
"""

import argparse
import sys

from scopevit.benchmark.export_speed import run_export_speed
from scopevit.cli import run_tool


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoints', nargs='*', metavar='CHECKPOINT', help='files of trainings')
    parser.add_argument(
        '--images', nargs='*', default=[], metavar='DIR', help='for each, images to predict'
    )
    parser.add_argument('--out', default='work_dirs/export_speed', help='default: %(default)s')
    parser.add_argument(
        '--page', help='Markdown file whose tables to replace too, as docs/performance.md'
    )
    args = parser.parse_args(argv)
    print(run_export_speed(args.checkpoints, args.images, args.out, args.page))


if __name__ == '__main__':
    sys.exit(run_tool(main))
