"""A checkpoint that an earlier commit wrote computes the same, is tested, and trains on."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import golden_image
from mini import MINI, assert_near, outputs

from scopevit import ScopeViT
from scopevit.checkpoint import read_checkpoint

FOLDER = Path(__file__).parents[1] / 'data' / 'commit_f7c8199'
CHECKPOINT = FOLDER / 'epoch_1.pth'
ARCH = dict(
    embed_dims=(4, 4, 4, 4),
    depths=(1, 1, 1, 1),
    num_heads=(2, 2, 2, 2),
    kv_strides=(4, 2, 1, 1),
    head_splits=((1, 1, 0), (1, 1, 0), (2, 0, 0), (1, 0, 1)),
    grid_size=4,
)


@pytest.fixture
def task(make_task):
    """The task as it was trained."""
    task = make_task('classification')
    task.edit(str(MINI), str(ARCH))
    task.edit('out_indices=(3,)', 'out_indices=(0, 1, 2, 3), frozen_stages=3')
    task.edit('in_channels=32', 'in_channels=4')
    task.edit('lr=0.01', 'lr=0.01, momentum=0.9')
    return task


def test_outputs():
    weights = read_checkpoint(CHECKPOINT)['state_dict']
    model = ScopeViT(ARCH).eval()
    prefix = 'backbone.'
    model.load_state_dict(
        {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    )
    with np.load(FOLDER / 'stages.npz') as stored:
        expected = [torch.from_numpy(stored[name]) for name in stored.files]
    assert [out.shape[-2:] for out in expected] == [
        (math.ceil(68 / stride), math.ceil(100 / stride)) for stride in (4, 8, 16, 32)
    ]
    assert_near(outputs(model, golden_image((1, 3, 68, 100))), expected)


def test_metric(task, tool):
    code, err = tool('test', task.config, CHECKPOINT, '--work-dir', task.work_dir)
    assert code == 0, err
    report = json.loads((task.work_dir / 'metrics.json').read_text())
    assert report['metrics'] == {'accuracy/top1': 25.0}


def test_training_goes_on(task, tool):
    code, err = tool(
        'train', task.config, '--work-dir', task.work_dir, '--resume', CHECKPOINT,
        '--cfg-options', 'train_cfg.max_epochs=2',
    )  # fmt: skip
    assert code == 0, err
    before, after = (read_checkpoint(p) for p in (CHECKPOINT, task.work_dir / 'epoch_2.pth'))
    assert (after['meta']['epoch'], after['meta']['iter']) == (2, 4)
    assert after['state_dict'].keys() == before['state_dict'].keys()
    assert after['optimizer']['state'].keys() == before['optimizer']['state'].keys()
    is_same = {k: torch.equal(v, after['state_dict'][k]) for k, v in before['state_dict'].items()}
    assert is_same['backbone.stages.0.patch_embed.0.weight']
    assert not is_same['backbone.stages.3.patch_embed.0.weight']
    assert not is_same['head.fc.weight']


def test_the_deployed_form_of_then_is_refused():
    weights = read_checkpoint(FOLDER / 'deployed_before.pth')
    for deploy in (False, True):
        with pytest.raises(RuntimeError, match='by a version that folded more than batch norms'):
            ScopeViT(ARCH, deploy=deploy).load_state_dict(weights)
