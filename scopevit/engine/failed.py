"""The step that ended a training, in a file with which it can be repeated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, gather_object, get_rank
from mmengine.runner import Runner
from torch import Tensor, nn

from scopevit.engine.batches import Draw, NumberedBatches
from scopevit.engine.loops import ResumableEpochLoop
from scopevit.engine.model import unwrap_model
from scopevit.engine.resume import State
from scopevit.engine.sharded import ShardedModel, whole_weights
from scopevit.errors import InputError
from scopevit.files import replacing, write_text

NOT_KNOWN = 'the step is not saved: which samples it has is not known any more'


def save_failed(runner: Runner, random: State, terms: Mapping[str, Tensor] | None) -> str:
    """Saves what the present step depends on, less the images; returns what to tell of it.

    That is: weights, messages, random state, and which samples were drawn, which are loaded from
    the data again. Without the optimizer, the file has the size of the weights. The config is in a
    file beside.

    Of a sharded model, it is called in all processes, which gather the weights in the first one.
    That one saves the step of the first process that has one to save.

    Args:
        runner: Of the training.
        random: The random state before the step.
        terms: Of its loss; None in a process whose step is not to be saved.
    """
    draws = current_draws(runner)
    if draws is None:
        return ''
    model = unwrap_model(runner.model)
    step = None
    if terms is not None and draws:
        step = describe_step(runner, random, terms, draws)
    if isinstance(runner.model, ShardedModel):
        return save_sharded(runner, model, step)
    return NOT_KNOWN if step is None else write_step(runner, model.state_dict(), step, get_rank())


def describe_step(
    runner: Runner, random: State, terms: Mapping[str, Tensor], draws: list[Draw]
) -> State:
    """Returns what a step depends on besides the weights, see `save_failed`."""
    return {
        'meta': {
            'seed': runner.seed,
            'epoch': runner.epoch,
            'iter': runner.iter,
            'skip_bad_samples': runner.skip_bad_samples,
            'draws': [[int(draw), *draw.place] for draw in draws],
            'terms': {name: value.item() for name, value in terms.items()},
        },
        'message_hub': runner.message_hub.state_dict(),
        'random': random,
    }


def save_sharded(runner: Runner, model: nn.Module, step: State | None) -> str:
    """Saves the step of a model that is sharded, see `save_failed`."""
    weights = whole_weights(model)
    # Statistics of BN are of a process, parameters of all.
    buffers = {name: value.cpu() for name, value in model.named_buffers()}
    steps = gather_object((step, buffers)) or []
    said = NOT_KNOWN
    for rank, (failed, own) in enumerate(steps):
        if failed is not None:
            weights = {name: own.get(name, value) for name, value in weights.items()}
            said = write_step(runner, weights, failed, rank)
            break
    lines = [said]
    broadcast_object_list(lines)
    return lines[0]


def write_step(runner: Runner, weights: Mapping[str, Any], step: State, rank: int) -> str:
    """Writes what the step of a process depends on; returns what to tell of it."""
    process = f'_process_{rank}' * bool(rank)
    path = Path(runner.work_dir, f'failed_iter_{runner.iter + 1}{process}.pth')
    config = path.with_suffix('.py')
    content = step | {'state_dict': {name: value.cpu() for name, value in weights.items()}}
    try:
        with replacing(path) as part:
            torch.save(content, part)
        write_text(config, runner.cfg.pretty_text)
    except (InputError, RuntimeError) as error:  # torch's own, of a disk that is full
        return f'the step is not saved: {error}'
    return f'tools/analysis_tools/replay.py {config} {path} repeats the step'


def current_draws(runner: Runner) -> list[Draw] | None:
    """Returns the samples of the present batch; None where the loop is not ours."""
    batches = runner.train_dataloader.batch_sampler
    if not isinstance(batches, NumberedBatches):
        return None
    loop = runner.train_loop
    number = loop.iter
    if isinstance(loop, ResumableEpochLoop):
        number = loop.epoch * len(batches) + loop.batch - 1
    return batches.drawn.get(number, [])
