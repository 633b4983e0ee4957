"""Print versions, devices, shims that acted, mmcv's operators and where the configs are."""

import argparse
import sys

from scopevit.info import as_json, as_text, describe_installation

EXAMPLE = 'scopevit info --json'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> None:
    """Prints it."""
    print('importing the libraries', file=sys.stderr)
    description = describe_installation()
    print(as_json(description) if args.json else as_text(description))
