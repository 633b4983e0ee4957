"""Converts weights of ScopeViT between the authors' names, OpenMMLab's and timm's.

    python tools/model_converters/convert_weights.py SRC DST [--to mm|timm|authors]

SRC has the names of any of them. DST is a checkpoint of torch.save or, by its suffix, safetensors.
Use one of OpenMMLab's names with `init_cfg=dict(type='Pretrained', checkpoint='DST',
prefix='backbone.')` or, with its classifier, as the checkpoint of `tools/test.py`.
"""

import argparse
import sys

from scopevit.cli import run_tool
from scopevit.models.convert import NAMINGS, convert_checkpoint


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', help='checkpoint of a classifier or a backbone')
    parser.add_argument('dst', help='file to write, .pth or .safetensors')
    parser.add_argument(
        '--to', choices=NAMINGS, default='mm', help="whose names to give; default: OpenMMLab's"
    )
    parser.add_argument('--backbone-only', action='store_true', help='drop the classifier')
    parser.add_argument(
        '--ema', action='store_true', help='take the averaged weights where SRC has both'
    )
    args = parser.parse_args(argv)
    arch = convert_checkpoint(args.src, args.dst, args.backbone_only, args.ema, args.to)
    print(f'{args.dst}: ScopeViT-{arch}{" without its classifier" if args.backbone_only else ""}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
