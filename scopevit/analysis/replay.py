"""Repeats the step that ended a training."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.utils import apply_to
from torch import Tensor, nn

from scopevit.checkpoint import read_checkpoint
from scopevit.engine.batches import Draw
from scopevit.engine.checks.weights import check_model_weights
from scopevit.engine.config import load_config
from scopevit.engine.explain import input_errors
from scopevit.engine.libraries import find_library
from scopevit.engine.model import unwrap_model
from scopevit.engine.resume import set_random_state
from scopevit.engine.run import build_runner
from scopevit.errors import InputError
from scopevit.preflight.model import TrialRunner, trial_config
from scopevit.report import markdown_table

PARTS = ('meta', 'state_dict', 'message_hub', 'random')
SHOWN = 3
META = ('seed', 'epoch', 'iter', 'draws', 'skip_bad_samples', 'terms')


def replay(config: str | Path, path: str | Path, cfg_options: dict[str, Any] | None = None) -> str:
    """Repeats a step, and tells its loss, then and now, and where it goes wrong.

    Args:
        config: That of the training, which has left it beside, with the ending `.py`.
        path: `failed_iter_<number>.pth`, from the work dir of a training whose loss was no number.
        cfg_options: Values for the config by dotted key, as where the data is.

    Returns:
        Markdown: the terms of the loss and the first module whose answer is no number.

    Raises:
        InputError: If the file is none of these, or the data or the model is another one.
    """
    content = read_failed(path)
    meta = content['meta']
    cfg = load_config(config, cfg_options)
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=meta['seed'])
    cfg.load_from = str(path)
    library = find_library(cfg.get('default_scope'))
    found: dict[str, Any] = {}
    with TemporaryDirectory(prefix='scopevit-replay-') as folder, input_errors(str(path)):
        runner = cast(
            TrialRunner, build_runner(trial_config(cfg, library, folder), 'none', TrialRunner)
        )
        check_model_weights(unwrap_model(runner.model), content, path)
        runner.checkpoint = content
        runner.skip_bad_samples = meta['skip_bad_samples']
        runner.trial = lambda: found.update(repeat_step(runner, content))
        runner.train()
    return describe(meta, found)


def read_failed(path: str | Path) -> dict[str, Any]:
    """Reads the file of a step, see `scopevit.engine.failed`.

    Raises:
        InputError: If it is another one.
    """
    content = read_checkpoint(path)
    parts = content if isinstance(content, Mapping) else {}
    missing = [key for key in PARTS if not isinstance(parts.get(key), Mapping)]
    if not missing:
        missing = [f'meta.{key}' for key in META if key not in parts['meta']]
    if missing:
        raise InputError(
            f'{path} is not the failed step of a training, it has no {", ".join(missing)}'
        )
    return dict(parts)


def repeat_step(runner: TrialRunner, content: Mapping[str, Any]) -> dict[str, Any]:
    """Takes the step; returns the terms of its loss, and the modules and weights that are wrong."""
    meta, loop = content['meta'], cast(Any, runner.train_loop)
    loop._epoch, loop._iter = meta['epoch'], meta['iter']
    runner.message_hub.load_state_dict(content['message_hub'])
    for hook in runner.hooks:
        if isinstance(hook, RuntimeInfoHook):  # some pipelines ask it for the iteration
            hook.before_train(runner)
    batch = load_batch(
        loop.dataloader, [Draw(index, tuple(place)) for index, *place in meta['draws']]
    )
    terms: dict[str, float] = {}
    model: Any = unwrap_model(runner.model)
    parse = model.parse_losses

    def parse_and_keep(losses: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss, values = parse(losses)
        terms.update({name: value.item() for name, value in values.items()})
        return loss, values

    # Not statistics of BN, which are of this step already.
    weights = [name for name, weight in model.named_parameters() if has_wrong(weight)]
    model.parse_losses = parse_and_keep
    model.train()
    set_random_state(content['random'])
    with first_wrong(model) as wrong:
        runner.model.train_step(batch, runner.optim_wrapper)
    return {'terms': terms, 'modules': wrong, 'weights': weights}


def load_batch(loader: Any, draws: list[Draw]) -> Any:
    """Loads samples as the training did.

    Raises:
        InputError: If the data has fewer.
    """
    count = len(loader.dataset)
    if draws and max(draws) >= count:
        raise InputError(f'the data is other data: {count} samples, the step has {max(draws)}')
    return loader.collate_fn(loader.dataset.__getitems__(draws))


@contextmanager
def first_wrong(model: nn.Module) -> Iterator[list[str]]:
    """Collects which modules, inside, answer what is no number to what are numbers, in turn."""
    found: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if has_wrong(output) and not has_wrong(inputs):
                found.append(f'{name} ({type(module).__name__})')

        return hook

    # Those inside of others first, as they answer.
    handles = [
        module.register_forward_hook(look(name)) for name, module in model.named_modules() if name
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def has_wrong(values: Any) -> bool:
    """Whether a tensor in something nested is not finite."""
    wrong: list[bool] = []
    apply_to(
        values,
        lambda x: isinstance(x, Tensor) and x.is_floating_point(),
        lambda x: wrong.append(not bool(torch.isfinite(x).all())),
    )
    return any(wrong)


def describe(meta: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Returns what a repeated step shows, Markdown."""
    then, now = meta['terms'], found['terms']
    names = [*then, *(name for name in now if name not in then)]
    rows = [[name, *(text(terms.get(name)) for terms in (then, now))] for name in names]
    is_same = [name in then and name in now and same(then[name], now[name]) for name in names]
    parts = [
        f'Iteration {meta["iter"] + 1}, {len(meta["draws"])} samples:\n',
        markdown_table(['term of the loss', 'then', 'now'], rows, 'lrr'),
        f'{sum(is_same)} of {len(rows)} terms are as they were.',
    ]
    if found['weights']:
        parts.append(
            f'Weights that are no numbers: {some(found["weights"])}. The step before did it.'
        )
    if found['modules']:
        parts.append(f'Numbers in, but not out, the first ones first: {some(found["modules"])}.')
    elif not all(math.isfinite(value) for value in now.values()):
        parts.append('Every module answers numbers: look at the loss itself, and its targets.')
    return '\n'.join(parts)


def same(a: float, b: float) -> bool:
    """Whether two numbers are equal, or both none."""
    return a == b or (math.isnan(a) and math.isnan(b))


def text(value: float | None) -> str:
    """Returns a value with what matters of its digits, nothing where there is none."""
    return '' if value is None else f'{value:.6g}'


def some(names: Sequence[str]) -> str:
    """Returns the first names of a list, and how many more there are."""
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return ', '.join(names[:SHOWN]) + more
