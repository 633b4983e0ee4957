"""Miniature trees of real images in the folders of the real data sets."""

import json
from pathlib import Path

import cv2
import numpy as np
from mmdet.datasets import CocoDataset, CocoPanopticDataset
from recipes import ROOT

DEMO = ROOT / 'data' / 'demo'
# In the order of their names, which is that of the labels. The first and the last are real.
WORDNET_IDS = ['n01440764', *(f'n{2_000_000 + i:08d}' for i in range(998)), 'n15075141']
# Ids that COCO leaves out of 1 to 90.
NOT_IN_COCO = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def people(split: str) -> dict:
    return json.loads((DEMO / f'pose/annotations/person_keypoints_{split}.json').read_text())


def copy_image(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def write_imagenet(root: Path) -> None:
    """One image each of the first and the last of 1000 classes, 360 x 440 (width x height)."""
    for split in ('train', 'val'):
        for name in WORDNET_IDS:
            (root / split / name).mkdir(parents=True)
        first, second = sorted((DEMO / 'pose' / 'images' / split).iterdir())[:2]
        copy_image(first, root / split / WORDNET_IDS[0] / f'{WORDNET_IDS[0]}_1.JPEG')
        copy_image(second, root / split / WORDNET_IDS[-1] / f'{WORDNET_IDS[-1]}_1.JPEG')


def write_custom(root: Path) -> None:
    """An image each of 10 classes, 250 x 250."""
    for split in ('train', 'val'):
        sources = sorted((DEMO / 'nuclei' / 'images' / split).iterdir())[:10]
        for i, source in enumerate(sources):
            copy_image(source, root / split / f'class{i}' / source.name)


def write_coco(root: Path) -> None:
    """Two images a split, 360 x 440, with two people each; the smaller one is a toothbrush to
    the detectors, the last of COCO's 80 categories."""
    (root / 'annotations').mkdir(parents=True)
    ids = [i for i in range(1, 91) if i not in NOT_IN_COCO]
    names = CocoDataset.METAINFO['classes']
    for split in ('train', 'val'):
        content = people(split)
        content['images'] = content['images'][:2]
        kept = {image['id'] for image in content['images']}
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
        for image in content['images']:
            name = image['file_name']
            copy_image(DEMO / 'pose' / 'images' / split / name, root / f'{split}2017' / name)
        path = root / 'annotations' / f'person_keypoints_{split}2017.json'
        path.write_text(json.dumps(content))

        content['categories'] = [dict(id=i, name=name) for i, name in zip(ids, names)]
        for annotation in content['annotations']:
            x, y, width, height = annotation['bbox']
            right, bottom = x + width, y + height
            annotation['segmentation'] = [[x, y, right, y, right, bottom, x, bottom]]
            annotation['category_id'] = 1 if width > 100 else 90
        path = root / 'annotations' / f'instances_{split}2017.json'
        path.write_text(json.dumps(content))
        write_panoptic(root, split, content)
    found = [
        dict(image_id=a['image_id'], category_id=1, bbox=a['bbox'], score=0.5 + 0.1 * i)
        for i, a in enumerate(content['annotations'])
    ]
    path = root / 'person_detection_results' / 'COCO_val2017_detections_AP_H_56_person.json'
    path.parent.mkdir()
    path.write_text(json.dumps(found))


def write_panoptic(root: Path, split: str, content: dict) -> None:
    """The boxes of instances as things, the larger ones behind, and the rest as stuff, the last."""
    stuff = 200
    things = content['categories']
    names = CocoPanopticDataset.METAINFO['stuff_classes']
    first = stuff + 1 - len(names)
    categories = [dict(category, isthing=1) for category in things]
    categories += [dict(id=first + i, name=name, isthing=0) for i, name in enumerate(names)]
    folder = root / 'annotations' / f'panoptic_{split}2017'
    folder.mkdir()
    annotations = []
    for image in content['images']:
        found = [a for a in content['annotations'] if a['image_id'] == image['id']]
        numbers = np.full((image['height'], image['width'], 3), 1, np.uint8)
        segments = [dict(id=65793, category_id=stuff, iscrowd=0, area=1, bbox=[0, 0, 9, 9])]
        for number, one in enumerate(sorted(found, key=lambda a: -a['bbox'][2]), start=2):
            x, y, width, height = (round(side) for side in one['bbox'])
            numbers[y : y + height, x : x + width] = (0, 0, number)  # BGR: red alone
            category = one['category_id']
            segments.append(
                dict(id=number, category_id=category, iscrowd=0, area=1, bbox=one['bbox'])
            )
        name = Path(image['file_name']).with_suffix('.png').name
        cv2.imwrite(str(folder / name), numbers)
        annotations.append(dict(image_id=image['id'], file_name=name, segments_info=segments))
    content = dict(images=content['images'], annotations=annotations, categories=categories)
    folder.with_suffix('.json').write_text(json.dumps(content))


def write_ade(root: Path) -> None:
    """Two images a split, 250 x 250; what has label 3 in the demo is of the last class."""
    for split, folder in (('train', 'training'), ('val', 'validation')):
        (root / 'annotations' / folder).mkdir(parents=True)
        for source in sorted((DEMO / 'nuclei' / 'images' / split).iterdir())[:2]:
            copy_image(source, root / 'images' / folder / source.name)
            labels = read_labels(split, source.stem)
            labels[labels == 3] = 150
            path = root / 'annotations' / folder / f'{source.stem}.png'
            cv2.imwrite(str(path), labels)


def read_labels(split: str, name: str) -> np.ndarray:
    path = DEMO / 'nuclei' / 'masks' / split / f'{name}.png'
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
