"""The step that ended a training, in a file with which it can be repeated."""

from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.runner import Runner
from torch import Tensor

from scopevit.engine.batches import Draw, NumberedBatches
from scopevit.engine.loops import ResumableEpochLoop
from scopevit.engine.model import unwrap_model
from scopevit.engine.resume import State
from scopevit.engine.sharded import ShardedModel
from scopevit.errors import InputError
from scopevit.files import replacing, write_text


def save_failed(runner: Runner, random: State, terms: Mapping[str, Tensor]) -> str:
    """Saves what the present step depends on, less the images; returns what to tell of it.

    That is: weights, messages, random state, and which samples were drawn, which are loaded from
    the data again. Without the optimizer, the file has the size of the weights. The config is in a
    file beside.

    Args:
        runner: Of the training.
        random: The random state before the step.
        terms: Of its loss.
    """
    draws = current_draws(runner)
    if draws is None:
        return ''
    if not draws:
        return 'the step is not saved: which samples it has is not known any more'
    if isinstance(runner.model, ShardedModel):
        return 'the step is not saved: of a sharded model, a process has a part'
    rank = get_rank()
    process = f'_process_{rank}' * bool(rank)
    path = Path(runner.work_dir, f'failed_iter_{runner.iter + 1}{process}.pth')
    config = path.with_suffix('.py')
    model = unwrap_model(runner.model)
    content = {
        'meta': {
            'seed': runner.seed,
            'epoch': runner.epoch,
            'iter': runner.iter,
            'skip_bad_samples': runner.skip_bad_samples,
            'draws': [[int(draw), *draw.place] for draw in draws],
            'terms': {name: value.item() for name, value in terms.items()},
        },
        'state_dict': {name: value.cpu() for name, value in model.state_dict().items()},
        'message_hub': runner.message_hub.state_dict(),
        'random': random,
    }
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
