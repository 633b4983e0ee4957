"""Converts a checkpoint of the authors' ScopeViT release for this project.

    python tools/model_converters/scopevit_to_mm.py SRC DST [--backbone-only]

Use the result with `init_cfg=dict(type='Pretrained', checkpoint='DST', prefix='backbone.')` or,
with its classifier, as the checkpoint of `tools/test.py`.
"""

import argparse
import sys

from scopevit.cli import run_tool
from scopevit.models.convert import convert_checkpoint


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', help='checkpoint of the release')
    parser.add_argument('dst', help='file to write')
    parser.add_argument('--backbone-only', action='store_true', help='drop the classifier')
    parser.add_argument(
        '--ema', action='store_true', help='take the averaged weights where SRC has both'
    )
    args = parser.parse_args(argv)
    arch = convert_checkpoint(args.src, args.dst, args.backbone_only, args.ema)
    print(f'{args.dst}: ScopeViT-{arch}{" without its classifier" if args.backbone_only else ""}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
