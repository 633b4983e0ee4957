"""Own data of `scopevit new`, damaged: COCO, YOLO, Pascal VOC, LabelMe, label maps."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from checked_sets import coco_content, noise
from mmengine.config import Config

from fuzzing.kind import Kind
from fuzzing.mutations import mutate_value
from fuzzing.training import OUTLINE, RUNS, damaged_map
from scopevit.own_data.new import new_config
from scopevit.preflight.quick import check_quickly

POINTS = [30, 20, 2, 34, 18, 2, 38, 18, 1]
VOC = """<annotation><filename>{name}.png</filename><size><width>64</width></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>20</xmin><ymin>10</ymin><xmax>38</xmax><ymax>26</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>2</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>
</object></annotation>"""
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">{entities}]>'


class OwnData(Kind):
    """Data of `scopevit new`; what it writes is checked again as before a training."""

    task = 'detection'
    names = ('own', 'samples to train on')  # the folder; the data as a whole

    def __init__(self, folder: Path, canary: Path) -> None:
        super().__init__(folder, canary)
        self.root = folder / 'own'
        self.images = [f'{split}/{split}{i}' for split in ('train', 'val') for i in range(3)]
        for i, name in enumerate(self.images):
            path = self.root / 'images' / f'{name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), noise(i))

    def new(self, source: Path) -> None:
        """Makes a config of the data, and checks the annotations beside it."""
        out = self.folder / 'own_made.py'
        shutil.rmtree(out.with_suffix(''), ignore_errors=True)
        new_config(self.task, source, 'xtiny', out=out, force=True, say=lambda line: None)
        if self.task != 'segmentation':
            check_quickly(Config(self.made(out.with_suffix(''))), out)

    def made(self, folder: Path) -> dict[str, Any]:
        """Returns what matters for the checks in the config that was made."""
        loaders = {}
        for split in ('train', 'val'):
            path = folder / f'{split}.json'
            names = [c['name'] for c in json.loads(path.read_text())['categories']]
            metainfo: Any = dict(classes=tuple(names))
            if self.task == 'pose':
                metainfo = Config.fromfile(folder / 'skeleton.py').dataset_info
            loaders[f'{split}_dataloader'] = dict(
                dataset=dict(
                    type='CocoDataset', data_root=str(self.root), data_prefix=dict(img=''),
                    ann_file=str(path), metainfo=metainfo,
                )
            )  # fmt: skip
        return dict(default_scope='mmpose' if self.task == 'pose' else 'mmdet', model={}, **loaders)


class OwnCoco(OwnData):
    """One COCO file of boxes and masks, at times read for segmentation."""

    def content(self) -> dict[str, Any]:
        content = coco_content('train')
        for annotation, mask in zip(content['annotations'], (OUTLINE, RUNS, OUTLINE)):
            annotation['segmentation'] = mask
        return content

    def take(self, chance: random.Random) -> None:
        path = self.root / 'damaged.json'
        self.write_json(path, self.content(), chance)
        self.task = chance.choice(['detection', 'segmentation'])
        self.new(path)


class OwnKeypoints(OwnCoco):
    """One COCO file of keypoints."""

    def content(self) -> dict[str, Any]:
        content = coco_content('train')
        for annotation in content['annotations']:
            annotation |= dict(keypoints=POINTS, num_keypoints=3)
        content['categories'] = [
            dict(c, keypoints=['nose', 'left_eye', 'right_eye'], skeleton=[[1, 2], [1, 3]])
            for c in content['categories']
        ]
        return content

    def take(self, chance: random.Random) -> None:
        path = self.root / 'damaged.json'
        self.write_json(path, self.content(), chance)
        self.task = 'pose'
        self.new(path)


class Yolo(OwnData):
    """`data.yaml` or one of the texts beside it, of boxes, outlines or keypoints."""

    LABELS = {
        'boxes': '1 0.5 0.4 0.2 0.4\n0 0.25 0.5 0.1 0.2\n',
        'outlines': '0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6\n',
        'keypoints': '1 0.5 0.4 0.2 0.4 0.5 0.4 2 0.55 0.4 2 0.6 0.4 1\n',
    }

    def take(self, chance: random.Random) -> None:
        kind = chance.choice(list(self.LABELS))
        self.task = 'pose' if kind == 'keypoints' else 'detection'
        content: dict[str, Any] = dict(
            train='images/train', val='images/val', names={0: 'cat', 1: 'dog'}, nc=2
        )
        if kind == 'keypoints':
            content |= dict(kpt_shape=[3, 3], flip_idx=[0, 2, 1])
        for name in self.images:
            path = self.root / 'labels' / f'{name}.txt'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.LABELS[kind])
        described = self.root / 'data.yaml'
        described.write_text(yaml.safe_dump(content))
        where = chance.random()
        if where < 0.5:
            label = self.root / 'labels' / 'train' / 'train0.txt'
            self.write_text(label, self.LABELS[kind], chance)
        elif where < 0.8:
            self.write_text(described, described.read_text(), chance)
        else:
            others = mutate_value(content, chance)
            described.write_text(yaml.safe_dump(others, allow_unicode=chance.random() < 0.5),
                                 encoding='utf-8', errors='surrogatepass')  # fmt: skip
        self.new(self.root if chance.random() < 0.5 else described)


class Voc(OwnData):
    """XML of Pascal VOC, at times with entities in entities."""

    def take(self, chance: random.Random) -> None:
        for name in self.images:
            path = self.root / 'annotations' / f'{Path(name).name}.xml'
            path.parent.mkdir(exist_ok=True)
            path.write_text(VOC.format(name=Path(name).name))
        path = self.root / 'annotations' / 'train0.xml'
        text = VOC.format(name='train0')
        if chance.random() < 0.1:
            names = 'abcdefghijk'
            entities = [f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip(names, names[1:])] + [
                f'<!ENTITY file SYSTEM "file://{self.root}/data.yaml">'
            ]
            text = BOMB.format(entities=''.join(entities)) + text.replace(
                'cat', chance.choice(['&k;', '&file;', '&c;', '&none;'])
            )
        self.write_text(path, text, chance)
        self.new(self.root)


class LabelMe(OwnData):
    """JSON of LabelMe with outlines, circles, rectangles and points."""

    def take(self, chance: random.Random) -> None:
        self.task = chance.choice(['detection', 'pose', 'segmentation'])
        kinds = ['polygon', 'circle', 'rectangle'] if self.task != 'segmentation' else ['polygon']
        for i, name in enumerate(self.images):
            path = self.root / 'annotations' / f'{Path(name).name}.json'
            path.parent.mkdir(exist_ok=True)
            kind = kinds[i % len(kinds)]
            corners = [[20, 10], [38, 26], [20, 26]][: 3 if kind == 'polygon' else 2]
            points = [('nose', [30, 20]), ('left_eye', [34, 18]), ('right_eye', [38, 18])]
            shapes: list[dict[str, Any]] = [
                dict(label='cat', shape_type=kind, points=corners, group_id=1),
                *(dict(label=p, shape_type='point', points=[at], group_id=1) for p, at in points),
            ]
            content = dict(shapes=shapes, imagePath=f'{Path(name).name}.png', imageData=None)
            if i:
                path.write_text(json.dumps(content))
            else:
                self.write_json(path, content, chance)
        self.new(self.root)


class OwnLabelMaps(OwnData):
    """Label maps beside images, one of them or the text of their classes damaged."""

    def take(self, chance: random.Random) -> None:
        self.task = 'segmentation'
        good = cv2.imencode('.png', np.tile(np.arange(64, dtype=np.uint8) // 22, (48, 1)))[1]
        for name in self.images:
            path = self.root / 'masks' / f'{name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(good.tobytes())
        names = self.root / 'classes.txt'
        names.write_text('ground\ncat\ndog\n')
        if chance.random() < 0.7:
            (self.root / 'masks' / f'{self.images[0]}.png').write_bytes(damaged_map(chance))
        else:
            self.write_text(names, names.read_text(), chance)
        self.new(self.root)
