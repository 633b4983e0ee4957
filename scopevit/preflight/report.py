"""What the trial of a model finds, and how what a library raises becomes a finding."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from mmengine.config import Config

from scopevit.engine.explain import input_errors
from scopevit.errors import InputError, error_text
from scopevit.preflight.findings import Finding, Level

OUT_OF_CPU_MEMORY = "can't allocate memory"  # a RuntimeError of torch


@dataclass
class ModelReport:
    """What the trial of a model says.

    Attributes:
        findings: What is wrong, or good to know.
        facts: Names and values: parameters, memory, times, losses.
        network: Seconds of a training step, without loading.
        failed: Whether something raised an error, so that what comes after cannot be tried.
    """

    findings: list[Finding] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    network: float = 0.0
    failed: bool = False

    def add(self, level: Level, what: str, where: str, text: str, count: int = 1) -> None:
        """Adds a finding."""
        self.findings.append(Finding(level, what, where, count, text))


@contextmanager
def caught(report: ModelReport, doing: str, where: str, cfg: Config) -> Iterator[None]:
    """Makes what is raised inside a finding of one line.

    With the environment variable SCOPEVIT_DEBUG it is raised, for those who look for a bug.

    Args:
        report: Is given the finding.
        doing: What is done inside, in a few words.
        where: Key of the config that is likely to blame.
        cfg: Config, for messages.
    """
    try:
        with input_errors(str(cfg.filename)):
            yield
    # A pipeline, model or metric may raise anything, and all of it would end a training.
    except Exception as error:
        if os.environ.get('SCOPEVIT_DEBUG', '0') != '0':
            raise
        report.failed = True
        # Made a line for users by input_errors; the finding has one of its own.
        raised = error.__cause__ if isinstance(error, InputError) else error
        if isinstance(raised, torch.OutOfMemoryError) or OUT_OF_CPU_MEMORY in str(error):
            batch_size = (cfg.get('train_dataloader') or {}).get('batch_size')
            report.add(
                'error',
                'out of memory',
                'train_dataloader.batch_size',
                f'{doing} needs more memory than there is: train_dataloader.batch_size is '
                f'{batch_size}, take less, or train with --amp',
            )
            return
        text = error_text(error) if isinstance(error, InputError) else raised_text(error)
        report.add('error', f'{doing} fails', where, f'{doing}: {text}')


def raised_text(error: Exception) -> str:
    """Returns what an error of a library says; one of a process that loads data tells it last."""
    message = str(error.args[0] if error.args else error)
    if 'in DataLoader worker process' in message:
        return message.strip().splitlines()[-1]
    return error_text(error)
