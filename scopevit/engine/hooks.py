"""Hooks that keep checkpoints safe, and the processes of a run alike."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import all_reduce_params, is_main_process
from mmengine.hooks import CheckpointHook, Hook, checkpoint_hook
from mmengine.runner import Runner

from scopevit.engine.resume import float_buffers
from scopevit.files import write_text

POINTER = 'last_checkpoint'  # names the one to go on from
STOPPED = 'stopped.pth'  # of a training that a signal has ended; goes with the next checkpoint


class CarefulCheckpointHook(CheckpointHook):
    """CheckpointHook that removes nothing before its time, and nothing of other runs.

    An old checkpoint goes after the new one is written: with `max_keep_ckpts=1`, a training that
    was killed in between would have none to go on from; with `save_best`, no best one.

    Checkpoints name others by their file names, and `last_checkpoint` names one by its path in the
    work dir, so that both are true of a copy of the folder as well. mmengine writes whole paths:
    a training in the copy would remove files of the original.
    """

    _validated = False  # whether what is saved has been
    _last: dict[str, Any] | None = None  # meta of the last checkpoint
    _outdated: list[str] | None = None  # what is to be removed, while others are written

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
        if stays:
            self.last_ckpt = str(runner.cfg.load_from)  # without one, no best one counts as saved
        hub = checkpoint['message_hub']
        info = hub['runtime_info']
        for key in [key for key in info if key == 'keep_ckpt_ids' or is_path_of_best(key)]:
            if not stays:
                del info[key]
                hub['resumed_keys'].pop(key, None)
            elif key != 'keep_ckpt_ids' and info[key]:
                info[key] = os.path.join(folder, Path(info[key]).name)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        self._validated = True
        with self._removing_last(runner):
            super()._save_best_checkpoint(runner, metrics)
        self._validated = False

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        meta = dict(meta, validated=self._validated)
        average_buffers(runner)  # called in all processes, of which the first one writes
        with self._removing_last(runner):
            with without_pointer():
                super()._save_checkpoint_with_step(runner, step, meta)
            self._point_to(runner, self.last_ckpt)
        if is_main_process() and '://' not in self.out_dir:
            runner.writer.do(partial(Path(self.out_dir, STOPPED).unlink, missing_ok=True))
        self._last = meta

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Ends the training where a checkpoint could not be written beside it."""
        runner.writer.check()
        super().after_train_iter(runner, *args, **kwargs)

    def after_train(self, runner: Runner) -> None:
        """Waits for the last checkpoint, of which mmengine may publish the weights."""
        runner.writer.wait()
        super().after_train(runner)

    def save_stopped(self, runner: Runner, meta: dict[str, int]) -> str:
        """Saves in the middle of things, for a training that stops; returns what to tell of it.

        Args:
            runner: Of the training.
            meta: `epoch` and `iter`; where the last checkpoint is of these, it is left at that.
        """
        runner.writer.wait()
        if self._last is not None and all(self._last[key] == meta[key] for key in meta):
            return f'{self.last_ckpt} has it'
        runner.resume_hook.gather(runner, buffers=True)
        average_buffers(runner)
        runner.save_checkpoint(
            self.out_dir, STOPPED, meta=dict(meta), by_epoch=False, backend_args=self.backend_args
        )
        path = self.file_backend.join_path(self.out_dir, STOPPED)
        self._point_to(runner, path)
        runner.writer.wait()
        return f'saved {path}'

    def _point_to(self, runner: Runner, path: str) -> None:
        """Writes which checkpoint is the last one, once that is written."""
        if not is_main_process():
            return
        if '://' not in path:
            whole = Path(os.path.abspath(path))
            is_inside = whole.is_relative_to(runner.work_dir)
            path = str(whole.relative_to(runner.work_dir) if is_inside else whole)
        runner.writer.do(write_text, Path(runner.work_dir, POINTER), path)

    @contextmanager
    def _removing_last(self, runner: Runner) -> Iterator[None]:
        """Puts off what mmengine removes until all is written, and spares what was written anew."""
        if self._outdated is not None:  # a best checkpoint, before which another one is saved
            yield
            return
        runner.writer.wait()  # mmengine looks which files there are
        outdated: list[str] = []
        self._outdated = outdated
        remove, self.file_backend.remove = self.file_backend.remove, outdated.append
        try:
            yield
        finally:
            self.file_backend.remove, self._outdated = remove, None
        # mmengine keeps the path of one metric as an attribute, those of several in a dict.
        bests = vars(self).get('best_ckpt_path_dict') or {'': vars(self).get('best_ckpt_path')}
        current = (self.last_ckpt, *bests.values())
        for path in outdated:
            if path not in current:
                runner.writer.do(remove, path)


@contextmanager
def without_pointer() -> Iterator[None]:
    """Keeps mmengine from writing `last_checkpoint`, which it does in place.

    In the background, it would name a file that is not there yet.
    """
    names = vars(checkpoint_hook)
    names['open'] = lambda *args, **kwargs: io.StringIO()
    try:
        yield
    finally:
        del names['open']


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
    all_reduce_params(float_buffers(runner), op='mean')
