"""Times prediction on many images against decoding them plus the bare network, and its memory.

OMP_WAIT_POLICY=passive python tools/benchmark/predict_speed.py [CONFIG_NAME] [--images 1000]
"""

import argparse
import sys

from scopevit.benchmark.machine import check_device, describe_machine
from scopevit.benchmark.predict_speed import measure_predict
from scopevit.cli import PositiveInt, add_device_argument, run_tool


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'config', nargs='?', default='scopevit-tiny_8xb128_in1k', help='name of a config'
    )
    parser.add_argument(
        '--images', action=PositiveInt, default=1000, metavar='N', help='default: 1000'
    )
    parser.add_argument(
        '--batch-size', action=PositiveInt, default=32, metavar='N', help='default: 32'
    )
    add_device_argument(parser)
    args = parser.parse_args(argv)
    check_device(args.device)
    found = measure_predict(args.config, args.images, args.batch_size, args.device)
    for name, value in describe_machine(args.device).items():
        print(f'{name}: {value}')
    print(f'{found.images} images of 640 x 480, batches of {args.batch_size}, {args.config}')
    print(f'decoding {found.decoding:.2f} s, bare network {found.network:.2f} s')
    print(f'predictor {found.predictor:.2f} s, {found.ratio:.2f} times the sum')
    print(f'memory from a quarter of the images to all: {found.memory:+.0f} MiB')


if __name__ == '__main__':
    sys.exit(run_tool(main))
