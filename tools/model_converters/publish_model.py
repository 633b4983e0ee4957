"""Writes what prediction needs of a checkpoint, under a name with the file's hash.

    python tools/model_converters/publish_model.py CHECKPOINT OUT [--safetensors] [--[no-]ema]

OUT `scopevit-tiny_in1k` becomes `scopevit-tiny_in1k-1a2b3c4d.pth`, with the first 8 hex digits of
the file's sha256. The optimizer and all that tells about the run, such as paths, are left out. A
`.pth` keeps the classes, the model and the test pipeline, so that `scopevit predict` takes it as it
is; a `.safetensors` has tensors alone.
"""

import argparse
import sys

from scopevit.cli import run_tool
from scopevit.publish import publish_checkpoint


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint of a training')
    parser.add_argument('out', help='file to write, without the hash')
    parser.add_argument('--safetensors', action='store_true', help='write a .safetensors file')
    parser.add_argument(
        '--ema',
        action=argparse.BooleanOptionalAction,
        help='take the moving average of the weights, or not; default: what tools/test.py takes, '
        'the average where the training kept one',
    )
    args = parser.parse_args(argv)
    print(publish_checkpoint(args.checkpoint, args.out, args.safetensors, args.ema))


if __name__ == '__main__':
    sys.exit(run_tool(main))
