"""Repeats the step that ended a training, whose loss was no number.

    python tools/analysis_tools/replay.py WORK_DIR/failed_iter_17.py WORK_DIR/failed_iter_17.pth

With `SCOPEVIT_DEBUG=1` in the environment, an error shows its whole traceback.
"""

import argparse
import sys

from scopevit.analysis.replay import replay
from scopevit.cli import add_config_options, run_tool


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='that of the training')
    parser.add_argument('checkpoint', help='failed_iter_*.pth, from its work dir')
    add_config_options(parser)
    args = parser.parse_args(argv)
    print(replay(args.config, args.checkpoint, args.cfg_options))


if __name__ == '__main__':
    sys.exit(run_tool(main))
