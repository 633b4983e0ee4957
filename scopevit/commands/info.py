"""Print versions, devices, shims that acted, mmcv's operators and where the configs are."""

import argparse
import sys

from scopevit.compat import check

EXAMPLE = 'scopevit info --json'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument(
        '--check',
        action='store_true',
        help='say what each shim does here, whose each operator is and what is broken; the exit '
        'code is 1 where something is',
    )


def run(args: argparse.Namespace) -> int:
    """Prints it."""
    if args.check:
        return check.run(args.json)
    from scopevit.info import as_json, as_text, describe_installation  # imports the libraries

    print('importing the libraries', file=sys.stderr)
    description = describe_installation()
    print(as_json(description) if args.json else as_text(description))
    return 0
