"""Prints a config with all that it inherits, as a config.

python tools/analysis_tools/print_config.py CONFIG [--cfg-options KEY=VALUE ...] [--out FILE.py]
"""

import argparse
import sys
from pathlib import Path

from scopevit.cli import add_config_options, run_tool
from scopevit.engine.config import merge_options, read_config
from scopevit.errors import InputError
from scopevit.files import write_text


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    add_config_options(parser)
    parser.add_argument('--out', metavar='FILE.py', help='write it here instead')
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith('.py'):
        raise InputError(f'--out must end in .py, not {args.out}')
    cfg = read_config(Path(args.config))
    merge_options(cfg, args.cfg_options or {})
    if args.out:
        write_text(Path(args.out), cfg.pretty_text)
    else:
        print(cfg.pretty_text, end='')


if __name__ == '__main__':
    sys.exit(run_tool(main))
