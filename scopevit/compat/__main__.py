"""`python -m scopevit.compat` is `scopevit info --check`, also where mmengine is missing."""

import argparse
import sys

from scopevit.compat.check import run

parser = argparse.ArgumentParser(
    prog='python -m scopevit.compat',
    description='Say which shims act, whose operators mmcv has, and what is broken.',
)
parser.add_argument('--json', action='store_true', help='print JSON')
sys.exit(run(parser.parse_args().json))
