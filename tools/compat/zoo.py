"""Tries every config that the libraries come with: one step of training, one of prediction.

python tools/compat/zoo.py [--sample] [--libraries mmdet] [--families atss dcn] [--jobs 2]
"""

import argparse
import sys

from scopevit.cli import PositiveFloat, PositiveInt, run_tool
from scopevit.model_zoo.files import ORDER
from scopevit.model_zoo.processes import Limits
from scopevit.model_zoo.run import run_zoo


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--libraries', nargs='+', choices=ORDER, default=ORDER, help='default: all four'
    )
    parser.add_argument(
        '--families',
        nargs='+',
        metavar='NAME',
        default=[],
        help="folders of configs, as mask_rcnn or mmpose's body_2d_keypoint/rtmpose; default: all",
    )
    parser.add_argument('--sample', action='store_true', help='one config of each family')
    parser.add_argument(
        '--retry', action='store_true', help='try again what did not work, say for a new operator'
    )
    parser.add_argument(
        '--jobs', action=PositiveInt, default=1, metavar='N', help='at a time; default: 1'
    )
    parser.add_argument(
        '--seconds',
        action=PositiveFloat,
        default=300.0,
        metavar='NUMBER',
        help='of computing that a config may take; default: 300',
    )
    parser.add_argument(
        '--memory',
        action=PositiveFloat,
        default=8.0,
        metavar='GIB',
        help='that a config may take; default: 8',
    )
    parser.add_argument(
        '--out',
        default='work_dirs/zoo',
        help='folder of the outcomes, which a later run goes on with; default: %(default)s',
    )
    parser.add_argument(
        '--page', help='Markdown file whose tables to replace too, as docs/compatibility.md'
    )
    args = parser.parse_args(argv)
    print(
        run_zoo(
            libraries=args.libraries,
            families=args.families,
            sample=args.sample,
            retry=args.retry,
            jobs=args.jobs,
            limits=Limits(args.seconds, args.memory),
            out=args.out,
            page=args.page,
        )
    )


if __name__ == '__main__':
    sys.exit(run_tool(main))
