"""A step of a sharded training that fails."""

from pathlib import Path

import pytest
import torch
from killed import RANDOM
from launched import launch
from tasks import write_task

from scopevit.analysis import replay
from scopevit.checkpoint import read_checkpoint

TESTS = Path(__file__).parents[1]
# A loss that is none in the third step of the second process, and where that is repeated.
WRONG = """
import os

from mmengine.logging import MessageHub
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS


@MODELS.register_module()
class WrongClassifier(ImageClassifier):
    def loss(self, inputs, samples):
        losses = super().loss(inputs, samples)
        is_third = MessageHub.get_current_instance().get_info('iter') == 2
        is_wrong = is_third and os.environ.get('RANK') != '0'
        wrong = float('nan') if is_wrong else 1
        return {'loss': losses['loss'] * wrong, 'loss_other': losses['loss'].detach()}
"""


STEPS = """
custom_imports['imports'] = ['scopevit', 'killed', 'wrong']
model['type'] = 'WrongClassifier'
del custom_hooks[0]
default_hooks['checkpoint']['interval'] = 4
model_wrapper_cfg = dict(type='ShardedModel', units=['ScopeViTBlock'])
"""


@pytest.mark.slow
def test_a_failed_step_of_two_processes_is_repeated_in_one(tmp_path, monkeypatch):
    task = write_task('classification', tmp_path)
    (tmp_path / 'wrong.py').write_text(WRONG)
    task.config.write_text(task.config.read_text() + RANDOM + STEPS)
    folder = tmp_path / 'run'
    result = launch('dist_train.sh', task.config, 2, '--work-dir', folder, cwd=tmp_path,
                    PYTHONPATH=f'{TESTS}:{tmp_path}', OMP_NUM_THREADS='1')  # fmt: skip
    assert result.returncode == 1
    saved = [folder / f'failed_iter_3_process_1{ending}' for ending in ('.py', '.pth')]
    assert f'; tools/analysis_tools/replay.py {saved[0]} {saved[1]} repeats the step' in (
        result.stderr
    )
    assert list(folder.glob('failed*.pth')) == [saved[1]]
    checkpoint = read_checkpoint(saved[1])
    assert checkpoint['meta']['terms']['loss_other'] > 0

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv('RANK', raising=False)
    report = replay.replay(*saved)
    assert report.startswith('Iteration 3, 2 samples:\n')
    assert '2 of 2 terms are as they were.' in report
    # Another sample has another loss.
    checkpoint['meta']['draws'][0][0] ^= 1
    torch.save(checkpoint, saved[1])
    assert '1 of 2 terms are as they were.' in replay.replay(*saved)
