"""tools/test.py on a miniature of each task."""

import json
import pickle
import re

import cv2
import mmengine
import numpy as np
import pytest
import torch
import torchvision

from scopevit import compat
from scopevit.engine import run

# Of the heads: fc 32 x 3 + 3; RPN 3x3 conv 16 x 16 + 16, 1x1 convs to 1 and 4; and so on.
FPN = (8 + 16 + 32 + 32) * 16 + 4 * 16 + 4 * (9 * 16 * 16 + 16)
RPN = 9 * 16 * 16 + 16 + (16 * 1 + 1) + (16 * 4 + 4)
BOX = (49 * 16 * 16 + 16) + (16 * 16 + 16) + (16 * 4 + 4) + (16 * 12 + 12)
MASK = (9 * 16 * 16 + 16) + (4 * 16 * 16 + 16) + (16 * 3 + 3)
OUTSIDE_OF_BACKBONE = {
    'classification': 32 * 3 + 3,
    'detection': FPN + RPN + BOX + MASK,
    'segmentation': (9 * 88 * 8 + 16) + (9 * (88 + 8) * 8 + 16) + (8 * 4 + 4),
    'pose': (16 * 32 * 16 + 32) + 2 * (16 * 16 * 16 + 32) + (16 * 17 + 17),
}
METRIC = {
    'classification': 'accuracy/top1',
    'detection': 'coco/segm_mAP',
    'segmentation': 'mIoU',
    'pose': 'coco/AP',
}
# Number of images, or of people where each is a sample.
SAMPLES = {'classification': 8, 'detection': 4, 'segmentation': 4, 'pose': 4}
LIBRARY = {
    'classification': 'mmpretrain',
    'detection': 'mmdet',
    'segmentation': 'mmseg',
    'pose': 'mmpose',
}


@pytest.mark.parametrize('name', METRIC)
def test_writes_metrics_predictions_and_drawings(name, make_task, tool, save_weights):
    task = make_task(name)
    checkpoint = save_weights(task)
    out, show_dir = task.work_dir / 'predictions.pkl', task.work_dir / 'drawings'
    code, err = tool(
        'test', task.config, checkpoint, '--work-dir', task.work_dir, '--out', out,
        '--show-dir', show_dir,
    )  # fmt: skip
    assert code == 0, err
    report = json.loads((task.work_dir / 'metrics.json').read_text())
    assert 0 <= report['metrics'][METRIC[name]] <= 100
    assert report['config'] == str(task.config)
    assert report['checkpoint'] == str(checkpoint)
    parameters = report['parameters']
    assert parameters['total'] - parameters['backbone'] == OUTSIDE_OF_BACKBONE[name]
    assert report['versions']['torch'] == torch.__version__
    assert report['versions']['mmengine'] == mmengine.__version__
    assert report['versions']['torchvision'] == torchvision.__version__
    assert report['versions']['numpy'] == np.__version__
    assert report['versions']['opencv'] == cv2.__version__
    assert {LIBRARY[name], 'mmcv', 'scopevit', 'python', 'pycocotools'} < set(report['versions'])
    assert report['compat'] == compat.acted
    assert report['device'] == (
        torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'
    )
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00', report['date'])
    assert len(pickle.loads(out.read_bytes())) == SAMPLES[name]
    drawings = [path for path in show_dir.rglob('*') if path.suffix in ('.png', '.jpg')]
    assert len(drawings) == SAMPLES[name]


@pytest.mark.parametrize('tta', [[], ['--tta']])
def test_accuracy_of_a_constant_answer(tta, make_task, tool, save_weights):
    def always_trouser(weights: dict) -> None:
        weights['head.fc.weight'].zero_()
        weights['head.fc.bias'].copy_(torch.tensor([0.0, 1.0, 0.0]))

    task = make_task('classification')
    checkpoint = save_weights(task, always_trouser)
    code, err = tool('test', task.config, checkpoint, '--work-dir', task.work_dir, *tta)
    assert code == 0, err
    report = json.loads((task.work_dir / 'metrics.json').read_text())
    # 4 of the 8 images are trousers.
    assert report['metrics'] == {'accuracy/top1': 50.0}
    (log,) = task.work_dir.glob('2*/2*.log')
    assert "collate_fn=dict(type='default_collate')" in log.read_text()


@pytest.mark.parametrize('tta', [[], ['--tta']])
def test_iou_of_a_constant_answer(tta, make_task, tool, save_weights):
    def always_background(weights: dict) -> None:
        weights['decode_head.conv_seg.weight'].zero_()
        weights['decode_head.conv_seg.bias'].copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))

    task = make_task('segmentation')
    checkpoint = save_weights(task, always_background)
    code, err = tool('test', task.config, checkpoint, '--work-dir', task.work_dir, *tta)
    assert code == 0, err
    masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in task.data.glob('masks/*')]
    background = 100 * np.mean(np.stack(masks) == 0)
    metrics = json.loads((task.work_dir / 'metrics.json').read_text())['metrics']
    # Background is right where it is and overlaps all; of the 3 other classes nothing is found.
    assert metrics['aAcc'] == pytest.approx(background, abs=0.01)
    assert metrics['mIoU'] == pytest.approx(background / 4, abs=0.01)
    assert metrics['mAcc'] == pytest.approx(25.0)


@pytest.mark.parametrize('name', ['classification', 'detection', 'segmentation'])
def test_default_test_time_augmentation(name, make_task, tool, save_weights):
    task = make_task(name)
    text = task.config.read_text().partition('tta_model =')[0]
    if name == 'detection':
        # The size of the images: near ties between proposals magnify what resizing rounds.
        text = text.replace('scale=(128, 128)', 'scale=(250, 250)')
        text += (
            "\nmodel['roi_head'].update(mask_head=None, mask_roi_extractor=None)"
            "\nval_evaluator['metric'] = 'bbox'\n"
        )
    task.config.write_text(text)
    checkpoint = save_weights(task)
    predictions = []
    for flip_images in (False, True):
        if flip_images:
            for path in task.data.glob('images/*'):
                # As PNG, which loses nothing, whatever the name says.
                path.write_bytes(cv2.imencode('.png', cv2.flip(cv2.imread(str(path)), 1))[1])
        out = task.work_dir / f'{flip_images}.pkl'
        code, err = tool(
            'test', task.config, checkpoint, '--work-dir', task.work_dir, '--out', out, '--tta'
        )
        assert code == 0, err
        predictions.append(pickle.loads(out.read_bytes()))
    # The average over both knows no left and right, but for the order of the results.
    for plain, flipped in zip(*predictions):
        if name == 'classification':
            assert torch.allclose(plain['pred_score'], flipped['pred_score'], atol=1e-4)
        elif name == 'segmentation':
            a, b = (p['pred_sem_seg']['data'].squeeze() for p in (plain, flipped))
            assert (a == b.flip(-1)).float().mean() > 0.99
        else:
            a, b = (p['pred_instances'] for p in (plain, flipped))
            assert len(a['scores']) > 0
            assert torch.allclose(a['scores'], b['scores'], atol=1e-4)
            # x1 and x2 from either border of the image
            assert torch.allclose(a['bboxes'][:, 0], 250 - b['bboxes'][:, 2], atol=0.01)


def test_as_a_process(make_task, process, save_weights):
    task = make_task('classification')
    checkpoint = save_weights(task)
    result = process('tools/test.py', task.config, checkpoint, '--work-dir', task.work_dir)
    assert result.returncode == 0, result.stderr[-2000:]
    report = json.loads((task.work_dir / 'metrics.json').read_text())
    assert 'accuracy/top1' in report['metrics']


def test_json_has_no_nan(tmp_path):
    path = tmp_path / 'metrics.json'
    run.write_json(path, {'a': float('nan'), 'b': np.float32(0.5), 'c': [np.inf, torch.tensor(2)]})
    assert json.loads(path.read_text()) == {'a': None, 'b': 0.5, 'c': [None, 2]}
    assert [p.name for p in tmp_path.iterdir()] == ['metrics.json']
