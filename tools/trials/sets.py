"""Four sets of data in the formats that people have, out of `data/demo` and a pinned package."""

import json
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import yaml

DEMO = Path(__file__).parents[2] / 'data' / 'demo'
SPLITS = ('train', 'val')
MIN_POINTS = 3  # of an outline
# fmt: off
CLOTHES = (
    't-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag',
    'ankle boot',
)
# The order of Leeds Sports Pose, with the nose as the head, and a neck between the shoulders: each
# is a point of COCO, or the middle of several.
POINTS = {
    'rAnkle': [16], 'rKnee': [14], 'rHip': [12], 'lHip': [11], 'lKnee': [13], 'lAnkle': [15],
    'rWrist': [10], 'rElbow': [8], 'rShoulder': [6], 'lShoulder': [5], 'lElbow': [7],
    'lWrist': [9], 'neck': [5, 6], 'head': [0],
}
BONES = (
    ('rAnkle', 'rKnee'), ('rKnee', 'rHip'), ('lAnkle', 'lKnee'), ('lKnee', 'lHip'),
    ('rHip', 'lHip'), ('rWrist', 'rElbow'), ('rElbow', 'rShoulder'), ('lWrist', 'lElbow'),
    ('lElbow', 'lShoulder'), ('rShoulder', 'neck'), ('lShoulder', 'neck'), ('neck', 'head'),
)
# fmt: on


def write_trees(folder: Path, package: Path) -> None:
    """Writes tree crowns seen from the air: the XML and PNG files of `deepforest`, as they are."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(package) as wheel:
        for name in wheel.namelist():
            if name.startswith('deepforest/data/') and name.endswith(('.xml', '.png')):
                (folder / Path(name).name).write_bytes(wheel.read(name))


def write_nuclei(folder: Path, count: int | None = None) -> None:
    """Writes nuclei as segments of YOLO, `count` images a split."""
    for split in SPLITS:
        coco = read_coco(DEMO / 'nuclei' / 'annotations' / f'instances_{split}.json', count)
        names = [c['name'] for c in sorted(coco['categories'], key=lambda c: c['id'])]
        lines = defaultdict(list)
        for item in coco['annotations']:
            outline = outline_of(mask_utils.decode(item['segmentation']))
            if len(outline) >= MIN_POINTS:
                size = item['segmentation']['size'][::-1]
                numbers = ' '.join(f'{value:.6f}' for value in (outline / size).ravel())
                lines[item['image_id']].append(f'{item["category_id"] - 1} {numbers}\n')
        for image in coco['images']:
            file = Path(image['file_name'])
            copy(DEMO / 'nuclei' / 'images' / split / file, folder / split / 'images' / file)
            label = folder / split / 'labels' / file.with_suffix('.txt')
            label.parent.mkdir(exist_ok=True)
            label.write_text(''.join(lines[image['id']]))
    content = dict(train='train/images', val='val/images', nc=len(names), names=names)
    (folder / 'data.yaml').write_text(yaml.safe_dump(content, sort_keys=False))


def write_people(folder: Path, count: int | None = None) -> None:
    """Writes people as COCO's keypoints with the skeleton `POINTS`, `count` images a split."""
    names = list(POINTS)
    for split in SPLITS:
        source = DEMO / 'pose' / 'annotations' / f'person_keypoints_{split}.json'
        coco = read_coco(source, count)
        bones = [[names.index(a) + 1, names.index(b) + 1] for a, b in BONES]
        coco['categories'] = [dict(id=1, name='acrobat', keypoints=names, skeleton=bones)]
        for item in coco['annotations']:
            points = np.reshape(item['keypoints'], (17, 3))  # (17 * 3,) -> (17, 3)
            middles = [middle(points[indices]) for indices in POINTS.values()]
            item['keypoints'] = np.round(middles, 2).ravel().tolist()
            item['num_keypoints'] = sum(bool(point[2]) for point in middles)
        for image in coco['images']:
            file = image['file_name']
            copy(DEMO / 'pose' / 'images' / split / file, folder / split / file)
        (folder / f'{split}.json').write_text(json.dumps(coco))


def write_clothes(folder: Path, count: int) -> None:
    """Writes pieces of clothing, a folder a class, `count` images each."""
    source = DEMO / 'fashion_mnist'
    images = read_idx(source / 'train-images-idx3-ubyte', 16).reshape(-1, 28, 28)  # (N, 28, 28)
    labels = read_idx(source / 'train-labels-idx1-ubyte', 8)
    for label, name in enumerate(CLOTHES):
        (folder / name).mkdir(parents=True)
        for i in np.flatnonzero(labels == label)[:count]:
            cv2.imwrite(str(folder / name / f'{i:04d}.png'), images[i])


def read_coco(path: Path, count: int | None) -> dict:
    """Returns the first images of a COCO file with their annotations, by default all."""
    coco = json.loads(path.read_text())
    coco['images'] = coco['images'][:count]
    ids = {image['id'] for image in coco['images']}
    coco['annotations'] = [a for a in coco['annotations'] if a['image_id'] in ids]
    return coco


def read_idx(path: Path, header: int) -> np.ndarray:
    """Returns the bytes of an idx file, the format of MNIST, after its header."""
    return np.frombuffer(path.read_bytes(), np.uint8, offset=header)


def copy(source: Path, target: Path) -> None:
    """Copies a file, into a folder that may not be there yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def outline_of(mask: np.ndarray) -> np.ndarray:
    """Returns the outline of the largest part of a mask, (H, W), as (P, 2) of x and y.

    OpenCV's outlines go through the centres of pixels, which takes half a pixel from each side; of
    an enlarged mask that is an eighth.
    """
    scale = 4
    fine = np.kron(mask, np.ones((scale, scale), np.uint8))  # (H, W) -> (4H, 4W)
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = cv2.approxPolyDP(max(contours, key=cv2.contourArea), scale / 2, closed=True)
    return (largest.reshape(-1, 2) + 0.5) / scale  # (P, 1, 2) -> (P, 2)


def middle(points: np.ndarray) -> Iterable[float]:
    """Returns the middle of points, each x, y and visibility; unlabelled where one of them is."""
    return points.mean(axis=0) if (points[:, 2] > 0).all() else np.zeros(3)
