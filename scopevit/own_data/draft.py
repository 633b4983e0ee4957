"""A config that is being written, and what the configs of all tasks have in common."""

import colorsys
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from scopevit.compat.external_configs import CONFIGS
from scopevit.engine.walk import type_name
from scopevit.errors import InputError
from scopevit.own_data.backbones import Backbone
from scopevit.own_data.samples import OwnData
from scopevit.own_data.schedule import Recipe, Schedule
from scopevit.own_data.source import WIDTH, Name, assign

HERE = '{{ fileDirname }}'  # mmengine puts the folder of the config there
MOST_INLINE = 20  # classes; more have a file of their own


@dataclass
class Draft:
    """A config for own data, and the files beside it.

    Attributes:
        config: File to write.
        data: What it is for.
        recipe: What it inherits.
        backbone: What replaces that of the recipe.
        bases: Other files that it inherits, relative to its folder.
        blocks: Its source after the docstring and `_base_`.
        files: Content of the files in `folder`, by their path in it; functions write their own.
        schedule: Of the training.
    """

    config: Path
    data: OwnData
    recipe: Recipe
    backbone: Backbone
    bases: list[str] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    files: dict[str, str | Callable[[Path], object]] = field(default_factory=dict)
    schedule: Schedule | None = None

    @property
    def folder(self) -> Path:
        """The folder for converted annotations, beside the config and named after it."""
        return self.config.with_suffix('')

    def beside(self, name: str) -> Name:
        """Returns a path in `folder`, as the config says it after `add_loaders`."""
        return Name(f"f'{{here}}/{name}'")

    def root(self) -> str:
        """Returns the folder of the data: from the config on, where it lies below that's folder."""
        root, start = self.data.root, self.config.parent
        if not root.is_relative_to(start):
            return str(root)
        return '/'.join([HERE, *root.relative_to(start).parts])

    def add(self, name: str, value: Any, comment: str = '') -> None:
        """Adds an assignment."""
        self.blocks.append(assign(name, value, comment))

    def add_classes(self, palette: bool = True) -> dict[str, Name]:
        """Adds classes and their colours; returns the metainfo that names them."""
        classes = tuple(self.data.classes)
        values: dict[str, Any] = dict(classes=classes)
        if palette:
            values['palette'] = colours(len(classes))
        if len(classes) > MOST_INLINE:
            self.files['classes.py'] = '\n'.join(assign(k, v) for k, v in values.items()) + '\n'
            self.bases.append(f'./{self.folder.name}/classes.py')
            return {name: Name(f'_base_.{name}') for name in values}
        self.blocks.append('\n'.join(assign(name, value) for name, value in values.items()))
        return {name: Name(name) for name in values}

    def add_steps(self, comment: str, changes: Iterable[tuple[str, str, str, Any]]) -> None:
        """Adds changes of pipelines.

        Args:
            comment: Where the numbers come from.
            changes: Pipeline, type of its step, key and value.
        """
        base = Config.fromfile(CONFIGS / '_base_' / 'own_data' / f'{self.recipe.base}.py')
        names = list(dict.fromkeys(name for name, *_ in changes))
        lines = [f'{", ".join(names)} = {", ".join(f"_base_.{name}" for name in names)}']
        for pipeline, kind, key, value in changes:
            index = [type_name(step) for step in base[pipeline]].index(kind)
            lines.append(f'{pipeline}[{index}].{key} = {value!r}  # {kind}')
        self.blocks.append('\n'.join([comment, *lines]))

    def add_loaders(
        self,
        dataset: dict[str, Any],
        parts: Callable[[str], dict[str, Any]],
        evaluator: str = '',
        val_pipeline: str = 'test_pipeline',
    ) -> None:
        """Adds the loaders of 'train' and 'val', whose pipelines have been changed before.

        Args:
            dataset: What the two data sets have in common.
            parts: Settings of the one of 'train' or 'val'.
            evaluator: File in `folder` that the metric reads, if it does.
            val_pipeline: What the recipe calls it.
        """
        assert self.schedule is not None
        lines = [
            assign('here', f'{HERE}/{self.folder.name}'),
            assign('dataset', dataset),
        ]
        for split, pipeline in (('train', 'train_pipeline'), ('val', val_pipeline)):
            batch = dict(batch_size=self.schedule.batch_size) if split == 'train' else {}
            own = {**parts(split), 'pipeline': Name(pipeline), '**': Name('dataset')}
            lines.append(assign(f'{split}_dataloader', dict(batch, dataset=own)))
        lines.append('test_dataloader = val_dataloader')
        if evaluator:
            lines.append(assign('val_evaluator', dict(ann_file=self.beside(evaluator))))
            lines.append('test_evaluator = val_evaluator')
        self.blocks.append('\n'.join(lines))

    def add_schedule(self, what: str) -> None:
        """Adds the schedule, where `what` is the name of the samples, and the hooks' intervals."""
        plan = self.schedule
        assert plan is not None
        warmup = dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=Name('warmup'))
        decay = dict(
            type='CosineAnnealingLR',
            by_epoch=False,
            begin=Name('warmup'),
            end=Name('max_epochs * steps'),
        )
        batches = f'batches of {plan.batch_size}: {plan.steps} steps an epoch'
        loop = dict(max_epochs=Name('max_epochs'), val_interval=plan.val_interval)
        lines = [
            f'# {plan.samples} {what} in {batches}.',
            f'max_epochs, steps, warmup = {plan.epochs}, {plan.steps}, {plan.warmup}',
            assign('train_cfg', loop),
            assign('param_scheduler', [warmup, decay]),
        ]
        if plan.learning_rate != self.recipe.learning_rate:
            lines += [
                f'# {self.recipe.learning_rate:g} is for batches of {self.recipe.batch_size}; '
                'it goes with the root of the batch.',
                assign('optim_wrapper', dict(optimizer=dict(lr=plan.learning_rate))),
            ]
        intervals = dict(logger=plan.log_interval, checkpoint=plan.val_interval)
        hooks = {name: dict(interval=interval) for name, interval in intervals.items()}
        lines.append(assign('default_hooks', hooks))
        lines.append(assign('auto_scale_lr', dict(base_batch_size=plan.batch_size)))
        self.blocks.append('\n'.join(lines))

    def text(self, command: str, title: str) -> str:
        """Returns the source of the config.

        Args:
            command: That wrote it.
            title: What it trains on what.
        """
        own = f'scopevit::_base_/own_data/{self.recipe.base}.py'
        bases = [own, *self.bases] if self.bases else own
        about = textwrap.wrap(
            f'Written by `{command}`. Numbers come from the data, as the comments say, others from '
            f'{own}.',
            WIDTH,
            break_long_words=False,
            break_on_hyphens=False,
        )
        train = f'    scopevit train {self.config.name}'
        doc = [*textwrap.wrap(f'"""{title}', WIDTH), '', train, '', *about, '"""']
        head = '\n'.join([*doc, '', assign('_base_', bases)])
        return '\n\n'.join([head, *self.blocks]) + '\n'


def colours(count: int) -> list[tuple[int, int, int]]:
    """Returns colours, RGB, whose hues are as far apart as their number allows."""
    hues = [colorsys.hsv_to_rgb(i / count, 0.8, (1.0, 0.75)[i % 2]) for i in range(count)]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in hues]


def multiple(value: float, least: int, most: int, of: int = 32) -> int:
    """Returns the multiple, in a range, that is next to a value."""
    return min(most, max(least, of * round(value / of)))


def median(values: Iterable[float]) -> float:
    """Returns the upper median of numbers."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def check_config_path(path: Path) -> Path:
    """Returns the absolute path of a config to write.

    Raises:
        InputError: If mmengine could not read a config by that name.
    """
    path = path.absolute()
    if path.suffix != '.py':
        raise InputError(f'--out takes the name of a config, FILE.py, not {path.name}')
    wrong = re.search(r'[\'"\\{}\n]', str(path))
    if wrong or '.' in path.stem:
        raise InputError(
            f'--out {path}: no config can be there, {(wrong or ".")[0]!r} is in its name'
        )
    return path
