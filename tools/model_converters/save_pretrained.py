"""Writes a classifier as the Hugging Face hub and timm keep it, and uploads it on request.

    python tools/model_converters/save_pretrained.py CHECKPOINT DIR [--recipe NAME]
        [--metrics work_dirs/NAME/metrics.json] [--push USER/NAME [--private]]

DIR gets the weights, a config and a model card, without any connection. After `import scopevit`,
`timm.create_model('local-dir:DIR', pretrained=True)` loads it.
"""

import argparse
import json
import sys
from pathlib import Path

from scopevit.cli import run_tool
from scopevit.errors import InputError
from scopevit.hf import push_to_hf_hub, save_pretrained


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint of a classifier')
    parser.add_argument('folder', metavar='DIR', help='folder to write')
    parser.add_argument('--recipe', metavar='NAME', help='config it was trained by, for the card')
    parser.add_argument('--metrics', metavar='FILE', help='metrics.json of tools/test.py')
    parser.add_argument('--push', metavar='USER/NAME', help='upload it to this repository')
    parser.add_argument('--private', action='store_true', help='make a new repository private')
    args = parser.parse_args(argv)
    if args.private and not args.push:
        parser.error('--private is about --push')
    metrics = read_metrics(args.metrics) if args.metrics else None
    save_pretrained(args.checkpoint, args.folder, args.recipe, metrics, args.push)
    print(f'written: {args.folder}')
    if args.push:
        print(push_to_hf_hub(args.folder, args.push, args.private))


def read_metrics(path: str) -> dict[str, float]:
    """Reads what a test measured."""
    try:
        return dict(json.loads(Path(path).read_bytes())['metrics'])
    except OSError as error:
        raise InputError(f'cannot read {path}: {error.strerror}') from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'not a metrics.json of tools/test.py: {path}') from error


if __name__ == '__main__':
    sys.exit(run_tool(main))
