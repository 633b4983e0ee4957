"""The miniature tasks: their images, out of those of the demo, and their configs, in data/tasks."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mini import MINI

DEMO = Path(__file__).parents[1] / 'data' / 'demo'
CONFIGS = Path(__file__).parent / 'data' / 'tasks'


@dataclass(frozen=True)
class Task:
    """A miniature task.

    Attributes:
        config: Config file.
        data: Folder of its images and annotations.
        work_dir: Folder for results, not there yet.
    """

    config: Path
    data: Path
    work_dir: Path

    def edit(self, old: str, new: str) -> None:
        """Replaces text in the config that is there exactly once."""
        text = self.config.read_text()
        assert text.count(old) == 1, f'{old!r} is there {text.count(old)} times'
        self.config.write_text(text.replace(old, new))


def read_idx(path: Path, offset: int) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), np.uint8, offset=offset)


def make_classification(folder: Path) -> None:
    """Two images each of classes 0 to 2 of Fashion-MNIST, and two more of class 1."""
    (folder / 'images').mkdir(parents=True)
    source = DEMO / 'fashion_mnist'
    images = read_idx(next(source.rglob('t10k-images*')), 16).reshape(-1, 28, 28)
    labels = read_idx(next(source.rglob('t10k-labels*')), 8)
    chosen = [i for c, n in ((0, 2), (1, 4), (2, 2)) for i in np.flatnonzero(labels == c)[:n]]
    lines = []
    for i in chosen:
        cv2.imwrite(str(folder / 'images' / f'{i}.png'), images[i])
        lines.append(f'{i}.png {labels[i]}\n')
    (folder / 'labels.txt').write_text(''.join(lines))


def copy_coco(source: Path, images: Path, count: int, target: Path) -> None:
    """Copies the first images of a COCO file, and their annotations."""
    content = json.loads(source.read_text())
    content['images'] = content['images'][:count]
    ids = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in ids]
    (target.parent / 'images').mkdir(parents=True, exist_ok=True)
    for image in content['images']:
        name = image['file_name']
        (target.parent / 'images' / name).write_bytes((images / name).read_bytes())
    target.write_text(json.dumps(content))


def make_nuclei(folder: Path) -> None:
    """Four tiles with instances of all three classes, and their label maps."""
    source = DEMO / 'nuclei'
    copy_coco(
        source / 'annotations' / 'instances_train.json',
        source / 'images' / 'train',
        4,
        folder / 'instances.json',
    )
    (folder / 'masks').mkdir()
    for image in (folder / 'images').iterdir():
        mask = source / 'masks' / 'train' / f'{image.stem}.png'
        (folder / 'masks' / mask.name).write_bytes(mask.read_bytes())


def make_pose(folder: Path) -> None:
    """The people of two images."""
    source = DEMO / 'pose'
    copy_coco(
        source / 'annotations' / 'person_keypoints_val.json',
        source / 'images' / 'val',
        2,
        folder / 'people.json',
    )


MAKE_DATA = {
    'classification': make_classification,
    'detection': make_nuclei,
    'segmentation': make_nuclei,
    'pose': make_pose,
}


def write_task(name: str, folder: Path) -> Task:
    """Writes a task: its config in one file, so that a test can change any line of it."""
    data = folder / f'{name}_data'
    MAKE_DATA[name](data)
    config = folder / f'{name}.py'
    parts = [(CONFIGS / f'{part}.py').read_text() for part in ('common', name)]
    config.write_text('\n'.join([f'arch = {MINI}', *parts]))
    return Task(config, data, folder / f'{name}_work_dir')
