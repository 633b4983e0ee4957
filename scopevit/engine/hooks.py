"""Hooks that keep checkpoints safe, and the processes of a run alike."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import all_reduce_params, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import Runner

from scopevit.files import write_text


class CarefulCheckpointHook(CheckpointHook):
    """CheckpointHook that removes nothing before its time, and nothing of other runs.

    An old checkpoint goes after the new one is written: with `max_keep_ckpts=1`, a training that
    was killed in between would have none to go on from; with `save_best`, no best one.

    Checkpoints name others by their file names, and `last_checkpoint` names one by its path in the
    work dir, so that both are true of a copy of the folder as well. mmengine writes whole paths:
    a training in the copy would remove files of the original.
    """

    def before_train(self, runner: Runner) -> None:
        """Removes what a training that was killed has left of a checkpoint."""
        super().before_train(runner)
        if is_main_process() and '://' not in self.out_dir:
            for part in Path(self.out_dir).glob('*.pth.*.part'):
                part.unlink(missing_ok=True)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Leaves the folder out of the paths that mmengine puts into a checkpoint."""
        info = checkpoint['message_hub']['runtime_info']  # copies of the runner's
        for key, path in info.items():
            if path and (key == 'last_ckpt' or is_path_of_best(key)):
                info[key] = Path(path).name

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Finds the checkpoints that this one names beside it; forgets them for a new folder."""
        if not runner.cfg.get('resume'):
            return
        folder = runner.work_dir
        if self.out_dir not in (None, folder):  # as mmengine does
            folder = os.path.join(self.out_dir, os.path.basename(folder.rstrip(os.sep)))
        # For a URL, this is no folder that is there.
        stays = Path(runner.cfg.load_from).parent.resolve() == Path(folder).resolve()
        hub = checkpoint['message_hub']
        info = hub['runtime_info']
        for key in [key for key in info if key == 'keep_ckpt_ids' or is_path_of_best(key)]:
            if not stays:
                del info[key]
                hub['resumed_keys'].pop(key, None)
            elif key != 'keep_ckpt_ids' and info[key]:
                info[key] = os.path.join(folder, Path(info[key]).name)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        with self._removing_last():
            super()._save_best_checkpoint(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        average_buffers(runner)  # called in all processes, of which the first one writes
        with self._removing_last():
            super()._save_checkpoint_with_step(runner, step, meta)
            if is_main_process() and '://' not in self.last_ckpt:
                path = Path(os.path.abspath(self.last_ckpt))
                if path.is_relative_to(runner.work_dir):
                    path = path.relative_to(runner.work_dir)
                write_text(Path(runner.work_dir, 'last_checkpoint'), str(path))

    @contextmanager
    def _removing_last(self) -> Iterator[None]:
        """Puts off what mmengine removes until all is written, and spares what was written anew."""
        outdated: list[str] = []
        remove, self.file_backend.remove = self.file_backend.remove, outdated.append
        try:
            yield
        finally:
            self.file_backend.remove = remove
        # mmengine keeps the path of one metric as an attribute, those of several in a dict.
        bests = vars(self).get('best_ckpt_path_dict') or {'': vars(self).get('best_ckpt_path')}
        current = (self.last_ckpt, *bests.values())
        for path in outdated:
            if path not in current:
                remove(path)


def is_path_of_best(key: str) -> bool:
    """Whether mmengine has the path of a best checkpoint under this name, of one metric or many."""
    return key == 'best_ckpt' or key.startswith('best_ckpt_')


class AverageBuffersHook(Hook):
    """Gives all processes the same buffers before they validate.

    Each normalises by its own batches: with statistics of its own, each would validate another
    model, and the one in the checkpoint would have none of their metrics.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        average_buffers(runner)


def average_buffers(runner: Runner) -> None:
    """Sets the buffers of a model, as the statistics of BN, to their mean over the processes."""
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    for model in (runner.model, *averages):
        # The others are counts and tables, the same everywhere.
        buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        all_reduce_params(buffers, op='mean')
