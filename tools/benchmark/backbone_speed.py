"""Times the backbone in its forms against a plain implementation and its peers, in turn.

python tools/benchmark/backbone_speed.py
"""

import argparse
import sys

from scopevit.benchmark.backbone_cases import DEFAULT_CASES
from scopevit.benchmark.backbone_speed import run_backbone_speed
from scopevit.benchmark.forms import PARTS
from scopevit.cli import add_device_argument, run_tool


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--cases',
        nargs='+',
        metavar='NAME',
        default=[],
        help='inference or training, size and batch, as inference-512x512-b1, or peers; '
        f'default: {" ".join(DEFAULT_CASES["cpu"])}; on a GPU also larger batches',
    )
    parser.add_argument(
        '--forms',
        nargs='+',
        metavar='FORM',
        default=[],
        help=f'parts joined by "+": {" ".join(PARTS)}; default: what suits the case',
    )
    parser.add_argument('--arch', default='tiny', help='xtiny, tiny or small; default: tiny')
    add_device_argument(parser)
    parser.add_argument(
        '--profile', action='store_true', help='add tables of the operators of two of the cases'
    )
    parser.add_argument(
        '--published',
        default='tools/benchmark/published.yml',
        help='file whose configs are the peers; default: %(default)s',
    )
    parser.add_argument('--out', default='work_dirs/backbone_speed', help='default: %(default)s')
    parser.add_argument(
        '--page', help='Markdown file whose tables to replace too, as docs/performance.md'
    )
    args = parser.parse_args(argv)
    print(
        run_backbone_speed(
            cases=list(dict.fromkeys(args.cases)),
            forms=list(dict.fromkeys(args.forms)),
            arch=args.arch,
            device=args.device,
            with_profile=args.profile,
            published=args.published,
            out=args.out,
            page=args.page,
        )
    )


if __name__ == '__main__':
    sys.exit(run_tool(main))
