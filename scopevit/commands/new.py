"""Write a config that trains on your own data."""

import argparse

from scopevit.cli import PositiveInt
from scopevit.own_data.new import TASKS, new_config

EXAMPLE = 'scopevit new detection path/to/data --size xtiny'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument('task', choices=TASKS)
    parser.add_argument(
        'data',
        help='folder of images by class, of COCO, YOLO, Pascal VOC or LabelMe annotations or of '
        'label maps; or the COCO file, or the data.yaml',
    )
    parser.add_argument('--size', default='tiny', help='of ScopeViT: xtiny, tiny (default), small')
    parser.add_argument('--backbone', metavar='timm:NAME', help='a network of timm instead')
    parser.add_argument(
        '--epochs', action=PositiveInt, metavar='N', help='default: by the number of images'
    )
    parser.add_argument(
        '--out', metavar='FILE', help='config to write; default: <task>_<name of the data>.py'
    )
    parser.add_argument('--force', action='store_true', help='replace a config that is there')


def run(args: argparse.Namespace) -> None:
    """Writes it, and prints what was found and how to train."""
    new_config(
        args.task, args.data, args.size, args.backbone, args.epochs, args.out, force=args.force
    )
