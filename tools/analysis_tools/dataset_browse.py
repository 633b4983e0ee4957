"""Draws what a config's data set feeds the network: images with their annotations.

    python tools/analysis_tools/dataset_browse.py CONFIG [--split val] [--stages both] ...

One picture a sample and a contact sheet of the first 16, by default in
work_dirs/<name of the config>/browse. With `SCOPEVIT_DEBUG=1` in the environment, an error shows
its whole traceback.
"""

import argparse
import sys

from scopevit.analysis.browse import STAGES, browse
from scopevit.cli import add_config_options, run_tool


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train')
    parser.add_argument('--number', type=int, default=16, help='samples to draw (default: 16)')
    parser.add_argument(
        '--stages',
        choices=STAGES,
        default='transformed',
        help='samples as the network gets them (default), as loaded, or both side by side',
    )
    parser.add_argument('--out-dir', help='default: browse in the work dir of the config')
    parser.add_argument('--show', action='store_true', help='show every picture in a window, too')
    parser.add_argument(
        '--seed', type=int, default=0, help='of the choice and the random transforms (default: 0)'
    )
    add_config_options(parser)
    args = parser.parse_args(argv)
    paths = browse(
        args.config,
        split=args.split,
        number=args.number,
        stages=args.stages,
        out_dir=args.out_dir,
        show=args.show,
        seed=args.seed,
        cfg_options=args.cfg_options,
    )
    print(f'{len(paths) - 1} pictures and {paths[-1]}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
