"""Exports of the miniature checkpoints, each made once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask as coco_mask
from trained import Trained

from scopevit import Predictor
from scopevit.export import export_checkpoint


@pytest.fixture(scope='session')
def exported(
    trained: Callable[[str], Trained], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A function that returns the ONNX file of a task."""
    pytest.importorskip('onnxruntime')
    known: dict[str, Path] = {}

    def make(task: str) -> Path:
        if task not in known:
            out = tmp_path_factory.mktemp(f'{task}_exported') / 'mine.onnx'
            made = trained(task)
            known[task] = export_checkpoint(made.checkpoint, out=out, images=made.images)
        return known[task]

    return make


@pytest.fixture(scope='session')
def found_again(trained: Callable[[str], Trained]) -> Path:
    """A config of the detection in whose data is what the checkpoint finds: metrics are not 0."""
    made = trained('detection')
    coco = json.loads((made.data / 'instances.json').read_text())
    ids = [category['id'] for category in coco['categories']]
    files = [str(made.images / image['file_name']) for image in coco['images']]
    results = Predictor(made.checkpoint, 'cpu', min_score=0)(files)
    found = [
        one | {'category_id': ids[one['category_id']], 'iscrowd': 0, 'area': mask_area(one)}
        for image, result in zip(coco['images'], results, strict=True)
        for one in result.to_coco(image['id'])
    ]
    coco['annotations'] = [one | {'id': i + 1} for i, one in enumerate(found)]
    (made.data / 'found.json').write_text(json.dumps(coco))
    config = made.config.with_name('found.py')
    text = made.config.read_text()
    assert 'instances.json' in text
    named = (
        "visualizer = dict(type='DetLocalVisualizer', name='visualizer')\n"  # as recipes have it
    )
    config.write_text(text.replace('instances.json', 'found.json') + named)
    return config


def mask_area(annotation: dict[str, Any]) -> float:
    return float(coco_mask.area(annotation['segmentation']))
