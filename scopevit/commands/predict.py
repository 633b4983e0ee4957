"""Predict images, folders and videos with a checkpoint."""

import argparse

from scopevit.cli import PositiveInt
from scopevit.inference.run import run_predict

EXAMPLE = 'scopevit predict work_dirs/mine/epoch_10.pth photo.jpg folder/ video.mp4 --out pictures'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a prediction."""
    parser.add_argument(
        'checkpoint', help='checkpoint file, which has its config in it, or an exported .onnx, .xml'
    )
    parser.add_argument(
        'sources',
        nargs='+',
        metavar='SOURCE',
        help="image, folder, pattern as 'images/*.jpg', video, or number of a camera",
    )
    parser.add_argument('--config', help='config file instead of the one in the checkpoint')
    parser.add_argument('--out', metavar='DIR', help='write a picture of every image here')
    parser.add_argument('--json', metavar='FILE', help='write JSON lines here, one an image')
    parser.add_argument('--csv', metavar='FILE', help='write a table here')
    parser.add_argument(
        '--save-video', action='store_true', help='write videos and folders as a video each to DIR'
    )
    parser.add_argument('--show', action='store_true', help='show pictures in a window; q ends it')
    parser.add_argument('--device', help='cpu, cuda, cuda:1; default: a GPU, where there is one')
    parser.add_argument(
        '--batch-size', action=PositiveInt, metavar='N', help="default: that of the config's test"
    )
    parser.add_argument('--half', action='store_true', help='backbone in half precision')
    parser.add_argument('--compile', action='store_true', help='compile the backbone')
    parser.add_argument(
        '--min-score',
        type=float,
        default=0.3,
        metavar='SCORE',
        help='least score of objects; default: 0.3',
    )
    parser.add_argument(
        '--top-k',
        action=PositiveInt,
        default=5,
        metavar='N',
        help='classes of a classification; default: 5',
    )
    parser.add_argument(
        '--tile',
        action=PositiveInt,
        metavar='SIZE',
        help='predict larger images in tiles of this many pixels a side, which overlap; for '
        'detection and segmentation',
    )
    boxes = parser.add_mutually_exclusive_group()
    boxes.add_argument(
        '--detector', metavar='CHECKPOINT', help='for poses: a detection that finds the boxes'
    )
    boxes.add_argument(
        '--boxes',
        metavar='FILE',
        help='for poses: JSON of the boxes by name of the image, '
        '{"a.jpg": [[left, top, right, bottom]]}; without both, the whole image',
    )
    parser.add_argument(
        '--strict', action='store_true', help='exit with 1 where an image is damaged'
    )


def run(args: argparse.Namespace) -> int:
    """Runs a prediction; returns the exit code."""
    return run_predict(
        args.checkpoint,
        args.sources,
        out=args.out,
        json_path=args.json,
        csv_path=args.csv,
        save_video=args.save_video,
        show=args.show,
        boxes=args.boxes,
        strict=args.strict,
        device=args.device,
        batch_size=args.batch_size,
        config=args.config,
        half=args.half,
        compile=args.compile,
        detector=args.detector,
        min_score=args.min_score,
        top_k=args.top_k,
        tile=args.tile,
    )
