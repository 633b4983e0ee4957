"""mmengine's loops of training, which go on in the middle of an epoch and at once."""

from typing import Any

from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from scopevit.engine.batches import NumberedBatches


class StepLeftOut(Exception):
    """The loss of a step has no value, and the training goes on without it."""


class ResumableEpochLoop(EpochBasedTrainLoop):
    """EpochBasedTrainLoop that goes on where its `NumberedBatches` start.

    Attributes:
        batch: Batches of the epoch that have come.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        batches = self.dataloader.batch_sampler
        self.batch = batches.skipped if isinstance(batches, NumberedBatches) else 0

    def run_epoch(self) -> None:
        """Runs an epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for data_batch in self.dataloader:
            self.batch += 1  # before the hooks that save it
            self.run_iter(self.batch - 1, data_batch)
        self.batch = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Runs a step, or leaves it out."""
        try:
            super().run_iter(idx, data_batch)
        except StepLeftOut:
            leave_out(self, idx, data_batch)

    def validate_if_due(self) -> None:
        """Validates what has been trained so far, where the epoch that was trained last asks it."""
        if not self.batch:
            validate_if_due(self, self._epoch, self._max_epochs)


class ResumableIterLoop(IterBasedTrainLoop):
    """IterBasedTrainLoop that goes on where its `NumberedBatches` start.

    mmengine's loads every batch up to there.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        batches = self.dataloader.batch_sampler
        if isinstance(batches, NumberedBatches):
            self.dataloader_iterator._epoch = batches.passes

    def run(self) -> Any:
        """Trains, and returns the model."""
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')  # the whole is one epoch, for the hooks
        try:
            while self._iter < self._max_iters and not self.stop_training:
                runner.model.train()
                self.run_iter(next(self.dataloader_iterator))
                self.validate_if_due()
        finally:
            del self.dataloader_iterator  # with its workers, which wait for whom else they serve
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def run_iter(self, data_batch: Any) -> None:
        """Runs a step, or leaves it out."""
        try:
            super().run_iter(data_batch)
        except StepLeftOut:
            leave_out(self, self._iter, data_batch)

    def validate_if_due(self) -> None:
        """Validates what has been trained so far, where the step that was trained last asks it."""
        validate_if_due(self, self._iter, self._max_iters)


def leave_out(loop: EpochBasedTrainLoop | IterBasedTrainLoop, idx: int, data_batch: Any) -> None:
    """Counts a step without a loss, as one that changes nothing.

    Where it is the last one of several whose gradients are added up, it takes those of the others.
    """
    runner = loop.runner
    wrapper = runner.optim_wrapper
    wrapper._inner_count += 1
    weights = (weight for group in wrapper.param_groups for weight in group['params'])
    if wrapper.should_update() and any(weight.grad is not None for weight in weights):
        wrapper.step()
        wrapper.zero_grad()
    runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs={})
    loop._iter += 1


def validate_if_due(loop: EpochBasedTrainLoop | IterBasedTrainLoop, done: int, last: int) -> None:
    """Validates after so many epochs or steps, of which a loop has some number, if it asks that."""
    loop._decide_current_val_interval()
    if loop.runner.val_loop is None or done < max(1, loop.val_begin):
        return
    if done % loop.val_interval == 0 or done == last:
        loop.runner.val_loop.run()
