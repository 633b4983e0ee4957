"""Checkpoints that are removed in time."""

import logging

import pytest
from mmengine.fileio import LocalBackend
from mmengine.logging import MessageHub

from scopevit.engine import hooks
from scopevit.engine.writer import Writer


@pytest.mark.parametrize('metrics', [['a'], ['a', 'b']])
def test_best_checkpoints_go_after_the_next_are_written(metrics, tmp_path):
    hook = hooks.CarefulCheckpointHook(save_best=metrics, rule='greater', save_last=False)
    hook.out_dir, hook.last_ckpt = str(tmp_path), None
    hook.file_backend = LocalBackend()
    hook.filename_tmpl = 'epoch_{}'
    if len(metrics) > 1:
        hook.best_ckpt_path_dict = dict.fromkeys(metrics)
    seen = []

    class FakeRunner:
        epoch = 0
        iter = 0
        logger = logging.getLogger('test')
        message_hub = MessageHub('test_best_checkpoints')
        writer = Writer()

        def save_checkpoint(self, out_dir: str, filename: str, **kwargs) -> None:
            (tmp_path / filename).touch()
            seen.append(sorted(path.name for path in tmp_path.iterdir()))

    fake = FakeRunner()
    for scores in ({'a': 1, 'b': 2}, {'a': 2, 'b': 1}, {'a': 0, 'b': 3}):
        fake.epoch += 1
        hook._save_best_checkpoint(fake, scores)
    left = sorted(path.name for path in tmp_path.iterdir())
    if len(metrics) == 1:
        assert seen == [['best_a_epoch_1'], ['best_a_epoch_1', 'best_a_epoch_2']]
        assert left == ['best_a_epoch_2']
    else:
        assert seen[2:] == [
            ['best_a_epoch_1', 'best_a_epoch_2', 'best_b_epoch_1'],
            ['best_a_epoch_2', 'best_b_epoch_1', 'best_b_epoch_3'],
        ]
        assert left == ['best_a_epoch_2', 'best_b_epoch_3']
    kept = f'best_{metrics[-1]}_epoch_3'
    for score in (4, 5):
        hook._save_best_checkpoint(fake, {'a': score, 'b': score})
        assert (tmp_path / kept).is_file()  # written anew under its name
