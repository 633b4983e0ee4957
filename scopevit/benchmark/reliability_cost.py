"""Times what a training pays for its checkpoints and its checks."""

import copy
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop

from scopevit.benchmark.machine import describe_machine
from scopevit.benchmark.pages import log, make_folder, make_page, page_with
from scopevit.benchmark.timing import quartiles, synchronize, take_turns, timed
from scopevit.engine.batches import seed_all
from scopevit.engine.config import disable_validation, load_config, require
from scopevit.engine.finite import FiniteLossHook
from scopevit.engine.libraries import find_library
from scopevit.engine.model import unwrap_model
from scopevit.engine.run import build_runner
from scopevit.engine.stopping import StopHook
from scopevit.engine.watchdog import WatchdogHook
from scopevit.engine.writer import Writer
from scopevit.errors import InputError
from scopevit.files import write_json, write_text
from scopevit.preflight.model import TrialRunner, trial_config
from scopevit.report import markdown_table, number, spread

INTERVAL = 50  # steps from one checkpoint to the next, of which the table tells the share
PAIRS = 30  # of a step with the checks and one without
SAVES = 7  # of each way
CALLS = 200  # of each check, by itself
WATCHED = 600.0  # seconds of the watchdog
WAYS = {'at once': False, '`--save-in-background`': True}
CHECKS = (FiniteLossHook, StopHook, WatchdogHook)
EDGE = 256  # pixels of the drawn images
BEGIN, END = '<!-- costs measured -->', '<!-- end of costs -->'


@dataclass
class Saves:
    """Seconds of saves in one way, and of the steps around them.

    Attributes:
        waits: How long the training waits for each.
        after: The step after each, beside which it may still be written.
        usual: A step beside which nothing is written.
    """

    waits: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    usual: list[float] = field(default_factory=list)

    @property
    def shares(self) -> list[float]:
        """What each adds to `INTERVAL` steps, as a part of these."""
        rounds = zip(self.waits, self.after, self.usual, strict=True)
        return [(wait + after - usual) / (INTERVAL * usual) for wait, after, usual in rounds]


@dataclass
class Costs:
    """What was measured of a training.

    Attributes:
        checked: Seconds of steps with the checks.
        plain: Of steps without, each beside one with them.
        calls: Of what the checks do in a step, by name.
        saves: By way.
        checkpoint_bytes: Of a checkpoint.
        device: What it ran on.
    """

    checked: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    calls: dict[str, list[float]] = field(default_factory=dict)
    saves: dict[str, Saves] = field(default_factory=dict)
    checkpoint_bytes: int = 0
    device: str = 'cpu'


def run_reliability_cost(
    config: str,
    batch_size: int,
    out: str,
    page: str | None,
    cfg_options: dict[str, Any] | None = None,
) -> str:
    """Measures a classifier's recipe on drawn images; writes, and returns, the tables.

    Args:
        config: The recipe.
        batch_size: Images of a step.
        out: Folder for `report.md`, `report.json` and, meanwhile, the checkpoints.
        page: Markdown file whose tables to replace as well.
        cfg_options: Changes of the config.

    Raises:
        InputError: If something given is wrong, before anything is measured.
    """
    if page is not None:
        page_with(page, BEGIN, END, '')
    cfg = load_config(config, cfg_options)
    require(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    library = find_library(cfg.get('default_scope'))
    if library.name != 'mmpretrain':
        raise InputError(f'{config}: drawn images have classes alone, give a recipe of mmpretrain')
    full = cfg.train_dataloader.batch_size
    folder = make_folder(out)
    with TemporaryDirectory(prefix='training-', dir=folder) as name:
        cfg = trial_config(cfg, library, name)
        disable_validation(cfg)
        use_drawn_images(cfg, Path(name, 'data'), batch_size)
        costs = measure(cfg)
    machine = describe_machine(costs.device)
    report = make_report(costs, Path(config).stem, batch_size, full, machine)
    write_text(folder / 'report.md', report)
    write_json(folder / 'report.json', {'machine': machine, **asdict(costs)})
    if page is not None:
        write_text(Path(page), page_with(page, BEGIN, END, report))
    return report


def use_drawn_images(cfg: Config, folder: Path, count: int) -> None:
    """Lets a classifier train on a batch of drawn images, and save after any step."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(count):
        cv2.imwrite(str(folder / f'{i}.jpg'), generator.integers(0, 256, (EDGE, EDGE, 3), np.uint8))
    write_text(folder / 'labels.txt', ''.join(f'{i}.jpg {i % 2}\n' for i in range(count)))
    cfg.train_dataloader.update(batch_size=count, num_workers=0)
    cfg.train_dataloader.dataset = dict(
        type='CustomDataset',
        data_root=str(folder),
        ann_file='labels.txt',
        pipeline=cfg.train_dataloader.dataset.pipeline,
    )
    hooks = dict(cfg.get('default_hooks') or {})
    cfg.default_hooks = dict(
        hooks, checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1, max_keep_ckpts=1)
    )


def measure(cfg: Config) -> Costs:
    """Builds the training of a config as `scopevit train --watchdog` does, and measures it."""
    runner = cast(TrialRunner, build_runner(cfg, 'none', TrialRunner))
    for hook in (WatchdogHook(WATCHED), StopHook()):
        runner.register_hook(hook)
    costs = Costs(device=next(runner.model.parameters()).device.type)

    def trial() -> None:
        training = Training(runner, costs.device)
        measure_steps(training, costs)
        measure_calls(training, costs)
        measure_saves(training, costs)

    runner.trial = trial
    try:
        runner.train()
    finally:
        for hook in runner.hooks:
            if isinstance(hook, WatchdogHook):
                hook.after_run()
    return costs


class Training:
    """A training that takes steps when it is told to, with its checks or without.

    Args:
        runner: Of the training, with all of its hooks.
        device: What it runs on.
    """

    def __init__(self, runner: TrialRunner, device: str) -> None:
        self.runner, self.device = runner, device
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        runner.model.train()
        self.batch = next(iter(runner.train_dataloader))
        self.saver = self.hook(CheckpointHook)
        self.checks: list[Any] = [self.hook(kind) for kind in CHECKS]
        self.others = [hook for hook in runner.hooks if hook not in (self.saver, *self.checks)]
        self.hooks = [hook for hook in runner.hooks if hook is not self.saver]
        for _ in range(2):  # the first ones make what the optimizer and the averages keep
            self.step(True)

    def hook(self, kind: type[Hook]) -> Any:
        """Returns the hook of a kind."""
        return next(hook for hook in self.runner.hooks if isinstance(hook, kind))

    def step(self, checked: bool) -> float:
        """Takes a step, with the checks or without, and returns its seconds."""
        finite = self.checks[0]
        finite.after_train(self.runner)
        if checked:
            finite.before_train(self.runner)
        self.runner._hooks = self.hooks if checked else self.others
        loop, batch = cast(Any, self.runner.train_loop), copy.deepcopy(self.batch)
        given = (0, batch) if isinstance(loop, EpochBasedTrainLoop) else (batch,)

        def run() -> None:
            loop.run_iter(*given)
            synchronize(self.device)

        synchronize(self.device)
        return timed(run)

    def save(self, background: bool) -> tuple[float, float, float]:
        """Saves, and takes a step beside it and one after it is done; returns their seconds."""
        runner = self.runner
        runner.writer = Writer(background)
        wait = timed(lambda: self.saver.after_train_iter(runner, batch_idx=0))
        after = self.step(True)
        runner.writer.finish()
        return wait, after, self.step(True)


def measure_steps(training: Training, costs: Costs) -> None:
    """Times steps with the checks and without, which come first in turn."""
    log(f'{PAIRS} steps with the checks and {PAIRS} without')
    for pair in range(PAIRS):
        for checked in (pair % 2 == 0, pair % 2 == 1):
            (costs.checked if checked else costs.plain).append(training.step(checked))


def measure_calls(training: Training, costs: Costs) -> None:
    """Times what the checks do in a step by itself, `CALLS` times."""
    runner, batch = training.runner, training.batch
    finite, stop, watchdog = training.checks
    count = len(batch['inputs'])
    model: Any = unwrap_model(runner.model)
    losses = {'loss': torch.ones((), device=costs.device)}
    finite.after_train(runner)
    parse = model.parse_losses
    finite.before_train(runner)
    parse_and_check = model.parse_losses

    def keep(allowed: int) -> None:
        finite.allowed = allowed
        finite.before_train_iter(runner, 0, batch)
        finite.allowed = 0

    def seed() -> None:
        for place in range(count):
            seed_all((0, 0, 0, place))

    def call(run: Callable[[], object], without: Callable[[], object] | None = None) -> list[float]:
        rest = timed_often(without) if without else [0.0] * CALLS
        return [a - b for a, b in zip(timed_often(run), rest, strict=True)]

    costs.calls = {
        'random states, which tell of a step that goes wrong': call(lambda: keep(0)),
        'the loss is a number': call(lambda: parse_and_check(losses), lambda: parse(losses)),
        'signals': call(lambda: stop.after_train_iter(runner)),
        '`--watchdog`': call(watchdog.watch),
        '`--skip-nan`: statistics of BN': call(lambda: keep(1), lambda: keep(0)),
        f'random numbers of {count} samples, in the process that loads them': call(seed),
    }


def timed_often(run: Callable[[], object]) -> list[float]:
    """Returns the seconds of `CALLS` calls in order, so that two of these compare."""
    return sorted(timed(run) for _ in range(CALLS))


def measure_saves(training: Training, costs: Costs) -> None:
    """Times the ways to save in turn."""

    def turns(saves: Saves, background: bool) -> Iterator[None]:
        training.save(background)
        while True:
            yield
            for values, seconds in zip(
                (saves.waits, saves.after, saves.usual), training.save(background), strict=True
            ):
                values.append(seconds)

    def fail(_: int, error: Exception) -> None:
        raise error

    costs.saves = {way: Saves() for way in WAYS}
    take_turns('saves', map(turns, costs.saves.values(), WAYS.values()), fail, rounds=SAVES)
    costs.checkpoint_bytes = Path(training.saver.last_ckpt).stat().st_size


def make_report(
    costs: Costs, recipe: str, batch_size: int, full: int, machine: dict[str, str]
) -> str:
    """Returns the tables of what was measured, and of the machine.

    `full`: images of the recipe's own step.
    """
    step = statistics.median(costs.plain)
    ratios = [a / b for a, b in zip(costs.checked, costs.plain, strict=True)]
    calls = {name: statistics.median(seconds) for name, seconds in costs.calls.items()}
    rows = [[name, number(1e6 * s), percent(s / step)] for name, s in calls.items()]
    total = sum(calls.values())
    rows.append(['together', number(1e6 * total), percent(total / step)])
    saves = [
        [
            way,
            spread(quartiles([1e3 * s for s in each.waits])),
            spread(quartiles([a / b for a, b in zip(each.after, each.usual, strict=True)])),
            spread(quartiles([100 * share for share in each.shares])),
        ]
        for way, each in costs.saves.items()
    ]
    less = f', of which the recipe has {full}' if full != batch_size else ''
    parts = [
        f'{recipe}, steps of {batch_size} images{less}, on {costs.device}: '
        f'{spread(quartiles(costs.plain))} s a step without the checks. With them a step takes '
        f'{spread(quartiles(ratios))} times as long as the one beside it.\n',
        'What the checks do, by itself:\n',
        markdown_table(['check', 'µs a step', '% of a step'], rows),
        f'A checkpoint has {number(costs.checkpoint_bytes / 1e6)} MB.\n',
        markdown_table(
            ['saving', 'training waits (ms)', 'step after it, times a usual one',
             f'% of {INTERVAL} steps'], saves
        ),
    ]  # fmt: skip
    return make_page(parts, [], machine)


def percent(share: float) -> str:
    """Returns a share in percent, two digits behind the point."""
    return f'{100 * share:.2f}'
