"""mmengine's Runner, with checks before the first iteration and checkpoints written whole."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook, LoggerHook
from mmengine.model import convert_sync_batchnorm
from mmengine.registry import HOOKS, LOOPS, MODEL_WRAPPERS, Registry
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from scopevit.engine.batches import number_batches
from scopevit.engine.checks.data import check_dataset
from scopevit.engine.config import unformatted
from scopevit.engine.finite import FiniteLossHook, check_finite
from scopevit.engine.hooks import AverageBuffersHook, CarefulCheckpointHook
from scopevit.engine.logs import ShortPassLoggerHook
from scopevit.engine.loops import ResumableEpochLoop, ResumableIterLoop
from scopevit.engine.model import load_weights, unwrap_model
from scopevit.engine.resume import ResumeHook, StoredEarlyStoppingHook, start_of
from scopevit.engine.samples import make_repeatable
from scopevit.engine.sharded import ShardedModel, WholeStateHook, is_sharded
from scopevit.engine.writer import Writer
from scopevit.errors import InputError

Loop: TypeAlias = BaseLoop | dict[str, Any]  # as built or as its config
OUR_VARIANTS = {
    CheckpointHook: CarefulCheckpointHook,
    EarlyStoppingHook: StoredEarlyStoppingHook,
    LoggerHook: ShortPassLoggerHook,
}
OUR_LOOPS = {EpochBasedTrainLoop: ResumableEpochLoop, IterBasedTrainLoop: ResumableIterLoop}


def registered(registry: Registry, kind: Any) -> Any:
    """Returns the class of a type in a config, by its name or itself."""
    return registry.get(kind) if isinstance(kind, str) else kind


class CheckedRunner(Runner):
    """A Runner that finds data which does not fit the model before it changes the work dir.

    It takes what mmengine's takes; the libraries' own tools run the same configs without it.

    Attributes:
        checkpoint: What `load_from` of the config names, where it was read and checked before.
        skip_bad_samples: How many samples a training may leave out that cannot be loaded.
        writer: Writes its checkpoints.
    """

    checkpoint: dict[str, Any] | None = None
    skip_bad_samples: int = 0
    writer = Writer()
    _train_dataloader: Any
    _wrote_config = False

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """Wraps a model like mmengine's, which moves it to the GPU first: there it may not fit."""
        if not self.distributed or not is_sharded(self.cfg):
            return super().wrap_model(model_wrapper_cfg, model)
        if self.cfg.get('sync_bn'):
            model = convert_sync_batchnorm(model, self.cfg.sync_bn)
        built: nn.Module = MODEL_WRAPPERS.build(model_wrapper_cfg, default_args=dict(module=model))
        return built

    def train(self) -> nn.Module:
        """Trains, with the model sharded before the optimizer gets its parameters."""
        if isinstance(self.model, ShardedModel):
            super()._init_model_weights()  # whole: each parameter is random as it is without this
            self.model.shard()
        return super().train()

    def _init_model_weights(self) -> None:
        if not isinstance(self.model, ShardedModel):
            super()._init_model_weights()

    def test(self) -> dict[str, float]:
        """Tests."""
        if isinstance(self.model, ShardedModel):
            self.model.shard()
        return super().test()

    def build_train_loop(self, loop: Loop) -> BaseLoop:
        """Builds a loop; for one of mmengine's ours, which goes on where its checkpoint was."""
        if not isinstance(loop, dict) or not isinstance(self._train_dataloader, dict):
            return self._build_checked(super().build_train_loop, loop, 'train_dataloader')
        loop = dict(loop)
        if 'by_epoch' in loop and 'type' not in loop:
            theirs = EpochBasedTrainLoop if loop.pop('by_epoch') else IterBasedTrainLoop
            loop['type'] = theirs
        ours = OUR_LOOPS.get(registered(LOOPS, loop.get('type')))
        if ours is None:  # it does with batches what it wants to
            return self._build_checked(super().build_train_loop, loop, 'train_dataloader')
        loop['type'] = ours
        by_epoch = ours is ResumableEpochLoop
        start = start_of(self.checkpoint if self.cfg.get('resume') else None, by_epoch)
        self._train_dataloader = number_batches(
            self._train_dataloader, self.seed, start, self.skip_bad_samples
        )
        built = self._build_checked(super().build_train_loop, loop, 'train_dataloader')
        length = len(built.dataloader)
        if start.batch and start.length != length:
            self.logger.warning(
                f'the data is other data: {length} batches an epoch, there were {start.length}; '
                f'begins epoch {(start.epochs or 0) + 1} anew'
            )
        return built

    def build_val_loop(self, loop: Loop) -> BaseLoop:
        return self._build_checked(super().build_val_loop, loop, 'val_dataloader')

    def build_test_loop(self, loop: Loop) -> BaseLoop:
        return self._build_checked(super().build_test_loop, loop, 'test_dataloader')

    def _build_checked(self, build: Callable[[Loop], BaseLoop], cfg: Loop, key: str) -> BaseLoop:
        try:
            loop = build(cfg)
        except (AssertionError, ValueError) as error:
            # What mmengine's BaseDataset says when nothing was found, or nothing was left.
            if 'need at least one array to concatenate' in str(error):
                raise InputError(f'{key}.dataset has no samples') from error
            if isinstance(error, AssertionError) and str(error):
                raise InputError(f'{key}: {error}') from error
            raise
        dataset = loop.dataloader.dataset
        if not len(loop.dataloader):
            raise InputError(
                f'{key} has no batches: {len(dataset)} samples, drop_last and batch_size leave none'
            )
        check_dataset(dataset, unwrap_model(self.model), f'{key}.dataset')
        return loop

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader[Any] | dict[str, Any],
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader[Any]:
        """Builds a DataLoader that depends on no random state of this process."""
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        make_repeatable(loader, seed or 0)
        return loader

    def dump_config(self) -> None:
        """Waits for `save_checkpoint`: the config in the work dir is that of the checkpoints."""

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Registers the hooks of the config, and ours."""
        super().register_hooks(*args, **kwargs)
        self.finite_hook = FiniteLossHook()
        self.register_hook(self.finite_hook)
        self.resume_hook = ResumeHook()
        self.register_hook(self.resume_hook)
        if self.distributed:
            self.register_hook(AverageBuffersHook())
        if isinstance(self.model, ShardedModel):
            self.whole_state_hook = WholeStateHook()
            self.register_hook(self.whole_state_hook)

    def register_hook(self, hook: Hook | dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Registers a hook, for some of mmengine's our variant; the config stays as it is."""
        if isinstance(hook, dict):
            ours = OUR_VARIANTS.get(registered(HOOKS, hook.get('type')))
            hook = dict(hook, type=ours) if ours else hook
        super().register_hook(hook, *args, **kwargs)

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads like mmengine's, but does not read again what was read before."""
        checkpoint, self.checkpoint = self.checkpoint, None  # nothing else keeps it
        if checkpoint is None:
            return super().load_checkpoint(filename, *args, **kwargs)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        load_weights(self.model, checkpoint)
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Saves like mmengine's, under another name first: a file is whole or not there.

        Raises:
            InputError: If it cannot be written, or weights are no numbers; earlier checkpoints are
                as they were.
        """
        self.writer.wait()  # no more than one is in memory
        check_finite(self.model)
        with_optimizer = kwargs.get('save_optimizer', True)
        if with_optimizer:
            self.resume_hook.gather(self)
        if isinstance(self.model, ShardedModel):
            self.whole_state_hook.gather(self, with_optimizer)
        try:
            self._save_whole(out_dir, filename, *args, **kwargs)
        finally:
            self.resume_hook.states = None
            if isinstance(self.model, ShardedModel):
                self.whole_state_hook.state = {}  # as large as the checkpoint

    def _save_whole(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        if '://' in out_dir:
            with unformatted(self.cfg):
                return super().save_checkpoint(out_dir, filename, *args, **kwargs)
        path = Path(out_dir, filename)
        # All processes take part, of which the first one writes.
        writing = self.writer.writing(path) if is_main_process() else nullcontext(path)
        with writing as part, unformatted(self.cfg):
            super().save_checkpoint(str(part.parent), part.name, *args, **kwargs)
        if is_main_process() and not self._wrote_config:
            super().dump_config()
            self._wrote_config = True
