"""Trains on own data as a newcomer would: four sets of four formats, by the commands alone.

    python tools/trials/run.py                             # all four
    python tools/trials/run.py --set nuclei --size xtiny --epochs 20

What is finished is not done again. In work_dirs/trials are README.md with the table, and a folder a
set: its data, config, checkpoints, logs and pictures. The tree crowns come from a package that pip
downloads and does not install; `--package` names its wheel where there is no network.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import sets

from scopevit.benchmark.machine import describe_machine
from scopevit.cli import PositiveInt, run_tool
from scopevit.errors import InputError
from scopevit.files import write_json, write_text
from scopevit.report import markdown_table

ROOT = Path(__file__).parents[2]
PREDICTED = 8  # images
COLUMNS = ('set', 'format', 'images', 'network', 'epochs', 'seconds', 'metric', 'first', 'best')


@dataclass(frozen=True)
class Trial:
    """A set and what is done with it.

    Attributes:
        name: Of the set.
        task: That it is for.
        format: For the table.
        write: Writes it into a folder.
        metrics: Keys in the log of a validation.
        settings: Of the config, for all commands that take some.
    """

    name: str
    task: str
    format: str
    write: Callable[[Path], object]
    metrics: tuple[str, ...]
    settings: tuple[str, ...] = ()


# Pyramids and heads half as wide as COCO's recipes have them: a step takes about half the time.
LIGHT_RETINANET = (
    'model.neck.out_channels=128',
    'model.bbox_head.in_channels=128',
    'model.bbox_head.feat_channels=128',
)
LIGHT_MASK_RCNN = (
    'model.neck.out_channels=128',
    'model.rpn_head.in_channels=128',
    'model.rpn_head.feat_channels=128',
    'model.roi_head.bbox_roi_extractor.out_channels=128',
    'model.roi_head.bbox_head.in_channels=128',
    'model.roi_head.bbox_head.fc_out_channels=512',
    'model.roi_head.mask_roi_extractor.out_channels=128',
    'model.roi_head.mask_head.in_channels=128',
    'model.roi_head.mask_head.conv_out_channels=128',
    'model.train_cfg.rcnn.sampler.num=128',
)

TRIALS = {
    trial.name: trial
    for trial in (
        Trial(
            'clothes',
            'classification',
            'a folder a class',
            lambda folder: sets.write_clothes(folder, 300),
            ('accuracy/top1',),
        ),
        Trial('people', 'pose', 'COCO, 14 keypoints', sets.write_people, ('coco/AP', 'coco/AP .5')),
        Trial(
            'nuclei',
            'detection',
            'YOLO segments',
            sets.write_nuclei,
            ('coco/bbox_mAP_50', 'coco/segm_mAP_50'),
            LIGHT_MASK_RCNN,
        ),
        Trial(
            'trees',
            'detection',
            'Pascal VOC',
            sets.write_trees,
            ('coco/bbox_mAP_50',),
            LIGHT_RETINANET,
        ),
    )
}


def run_command(arguments: list[object], log: Path) -> float:
    """Runs `scopevit` with some arguments, its output in a log, and returns the seconds it took.

    Raises:
        InputError: If it fails; the message ends with what it said last.
    """
    words = [str(argument) for argument in arguments]
    print(f'  scopevit {" ".join(words)}', flush=True)
    # As in tools/demo/run.py: threads that spin take the cores of whatever else runs.
    env = {'OMP_WAIT_POLICY': 'passive', **os.environ}
    start = time.monotonic()
    with log.open('w') as file:
        done = subprocess.run(
            [sys.executable, ROOT / 'scopevit_command.py', *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=env,
        )
    if done.returncode:
        last = (log.read_text().strip() or 'nothing').splitlines()[-1]
        raise InputError(f'scopevit {words[0]} stopped: {last.removeprefix("error: ")} ({log})')
    return time.monotonic() - start


def run_trial(
    trial: Trial, folder: Path, size: str, epochs: int | None = None, settings: Sequence[str] = ()
) -> None:
    """Runs all commands on a set and writes what the table needs."""
    shutil.rmtree(folder, ignore_errors=True)  # of a trial that did not end
    data, config, work_dir = folder / trial.name, folder / 'own.py', folder / 'work_dir'
    trial.write(data)
    options = ['--size', size, *(['--epochs', epochs] if epochs else [])]
    first = ['new', trial.task, data, '--out', config, *options]
    settings = [*trial.settings, *settings]
    more = ['--cfg-options', *settings] if settings else []
    commands: list[list[object]] = [
        first,
        ['check', config, '--out', folder / 'check.png', *more],
        ['train', config, '--work-dir', work_dir, *more],
    ]
    seconds = {str(c[0]): run_command(c, folder / f'{c[0]}.log') for c in commands}
    checkpoint = best_checkpoint(work_dir)
    last: list[list[object]] = [
        ['test', config, checkpoint, '--work-dir', folder / 'test', *more],
        predict_command(trial, folder, data, checkpoint),
    ]
    seconds |= {str(c[0]): run_command(c, folder / f'{c[0]}.log') for c in last}
    result = dict(
        network=size,
        images={split: len(part) for split, part in read_splits(folder).items()},
        seconds=seconds,
        validations=read_validations(work_dir, trial.metrics),
        tested=json.loads((folder / 'test' / 'metrics.json').read_text())['metrics'],
        said=(folder / 'new.log').read_text().splitlines(),
    )
    write_json(folder / 'result.json', result)


def best_checkpoint(work_dir: Path) -> Path:
    """Returns the checkpoint that validated best, the last where none found anything."""
    found = sorted(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else work_dir / (work_dir / 'last_checkpoint').read_text()


def read_splits(folder: Path) -> dict[str, list[str]]:
    """Returns the images of the splits that `scopevit new` made, by their paths in the data."""
    found = {}
    for split in sets.SPLITS:
        lists = [folder / 'own' / f'{split}{ending}' for ending in ('.json', '.txt')]
        text = next(path for path in lists if path.is_file()).read_text()
        if text.startswith('{'):
            found[split] = [image['file_name'] for image in json.loads(text)['images']]
        else:
            found[split] = [line.rpartition(' ')[0] for line in text.splitlines()]
    return found


def predict_command(trial: Trial, folder: Path, data: Path, checkpoint: Path) -> list[object]:
    """Returns what predicts some images to validate on; people, in their annotated boxes."""
    files = read_splits(folder)['val']
    images = [data / file for file in files[:: max(1, len(files) // PREDICTED)][:PREDICTED]]
    output = ['--out', folder / 'pictures', '--json', folder / 'predictions.jsonl']
    if trial.task == 'pose':
        write_json(folder / 'boxes.json', boxes_of(folder / 'own' / 'val.json'))
        output += ['--boxes', folder / 'boxes.json']
    return ['predict', checkpoint, *images, *output]


def boxes_of(path: Path) -> dict[str, list[list[float]]]:
    """Returns the boxes of a COCO file by the name of the image: left, top, right, bottom."""
    coco = json.loads(path.read_text())
    names = {image['id']: Path(image['file_name']).name for image in coco['images']}
    found: dict[str, list[list[float]]] = {name: [] for name in names.values()}
    for item in coco['annotations']:
        x, y, width, height = item['bbox']
        found[names[item['image_id']]].append([x, y, x + width, y + height])
    return found


def read_validations(work_dir: Path, metrics: tuple[str, ...]) -> list[dict[str, float]]:
    """Returns the metrics of all validations of a training, with their epoch as `step`."""
    lines = next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [
        {'step': row['step'], **{key: row[key] for key in metrics}}
        for row in found
        if metrics[0] in row
    ]


def row(trial: Trial, result: dict) -> list[str]:
    """Returns a set's row of the table."""
    epochs, network = re.search(r'(\d+) epochs of', '\n'.join(result['said'])), result['network']
    first = next(iter(result['validations']), {})
    return [
        trial.name,
        trial.format,
        ' + '.join(str(count) for count in result['images'].values()),
        network,
        epochs[1] if epochs else '',
        ', '.join(f'{name} {seconds:.0f}' for name, seconds in result['seconds'].items()),
        '\n'.join(trial.metrics),
        '\n'.join(f'{first[key]:.3f} (epoch {first["step"]})' for key in trial.metrics if first),
        '\n'.join(f'{result["tested"].get(key, 0):.3f}' for key in trial.metrics),
    ]


def write_readme(out: Path) -> str:
    """Writes README.md with the table of what is finished; returns the table."""
    rows = []
    for name, trial in TRIALS.items():
        path = out / name / 'result.json'
        if path.is_file():
            rows.append(row(trial, json.loads(path.read_text())))
    table = markdown_table(COLUMNS, rows, 'l' * len(COLUMNS))
    about = (
        '# Trials on own data\n\nMade by `python tools/trials/run.py`. Images are those to train '
        'on and to validate on, metrics those of the first validation and of the checkpoint that '
        'validated best.\n\n'
    )
    machine = ', '.join(f'{key} {value}' for key, value in describe_machine('cpu').items())
    write_text(out / 'README.md', f'{about}{table}\n{machine}\n')
    return table


def download(out: Path) -> Path:
    """Downloads the package with the tree crowns, if it is not there yet; returns its wheel."""
    wheels = list(out.glob('deepforest-*.whl'))
    if wheels:
        return wheels[0]
    pinned = Path(__file__).with_name('requirements.txt')
    options = ['--no-deps', '--require-hashes', '--requirement', pinned, '--dest', out]
    print('downloading the package with the tree crowns', flush=True)
    command = [sys.executable, '-m', 'pip', 'download', '--quiet', *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or 'no message').splitlines()[-1]
        raise InputError(
            f'pip cannot download what {pinned} names ({last.removeprefix("ERROR: ")}); '
            '--package names a wheel that is there'
        )
    return next(out.glob('deepforest-*.whl'))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--set', choices=TRIALS, help='only this one')
    parser.add_argument('--size', default='tiny', help='of ScopeViT: xtiny, tiny (default), small')
    parser.add_argument(
        '--epochs', action=PositiveInt, metavar='N', help='default: that of `scopevit new`'
    )
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'trials')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='as in tools/train.py'
    )
    parser.add_argument('--package', type=Path, help='wheel of deepforest instead of a download')
    args = parser.parse_args(argv)
    out = args.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    for trial in [TRIALS[args.set]] if args.set else TRIALS.values():
        if (out / trial.name / 'result.json').is_file():
            continue
        print(trial.name, flush=True)
        if trial.name == 'trees':
            package = args.package or download(out)
            if not package.is_file():
                raise InputError(f'no such file: {package}')
            trial = replace(trial, write=partial(sets.write_trees, package=package))
        run_trial(trial, out / trial.name, args.size, args.epochs, args.cfg_options)
    print(f'\n{write_readme(out)}\nTable: {out / "README.md"}')
    print('Delete a folder there to try its set again.')


if __name__ == '__main__':
    sys.exit(run_tool(main))
