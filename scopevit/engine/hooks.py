"""Hooks that keep checkpoints safe, and the processes of a run alike."""

import os
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

    max_keep_ckpts: int

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
        if not self.save_best:
            return
        # mmengine keeps the path of one metric as an attribute, those of several in a dict.
        single = len(self.key_indicators) == 1
        paths: dict[str, Any] = self.__dict__ if single else self.best_ckpt_path_dict
        earlier = {key: paths[key] for key in (['best_ckpt_path'] if single else paths)}
        paths.update(dict.fromkeys(earlier))  # it removes the files it knows of
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            replaced = [key for key in earlier if paths[key]]
            paths.update({key: old for key, old in earlier.items() if key not in replaced})
        for key in replaced:
            if earlier[key] and earlier[key] != paths[key]:
                self._remove_file(earlier[key])

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        average_buffers(runner)  # called in all processes, of which the first one writes
        keep = self.max_keep_ckpts
        if keep <= 0:
            return self._save_and_name(runner, step, meta)
        outdated = None
        if not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step:
            if len(self.keep_ckpt_ids) == keep:
                outdated = self.keep_ckpt_ids.popleft()
            self.keep_ckpt_ids.append(step)
            # The checkpoint holds this list, for the training that goes on from it.
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self.max_keep_ckpts = -1  # removes none
        try:
            self._save_and_name(runner, step, meta)
        finally:
            self.max_keep_ckpts = keep
        if outdated is not None:
            self._remove_file(
                self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated))
            )

    def _save_and_name(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        super()._save_checkpoint_with_step(runner, step, meta)
        if is_main_process() and '://' not in self.last_ckpt:
            path = Path(os.path.abspath(self.last_ckpt))
            if path.is_relative_to(runner.work_dir):
                path = path.relative_to(runner.work_dir)
            write_text(Path(runner.work_dir, 'last_checkpoint'), str(path))

    def _remove_file(self, path: str) -> None:
        if is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)


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
