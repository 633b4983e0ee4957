"""The part of the checks that every training begins with."""

import logging
from pathlib import Path

from mmengine.config import Config

from scopevit.errors import InputError
from scopevit.preflight.data import FILES, check_data
from scopevit.preflight.findings import Finding
from scopevit.preflight.samples import UNREAD


def check_quickly(cfg: Config, config: str | Path) -> list[Finding]:
    """Checks annotations before a training, in the order of seconds.

    Returns:
        What is no error.

    Raises:
        InputError: The first error; every process of a distributed run finds the same.
    """
    splits = tuple(split for split in ('train', 'val') if cfg.get(f'{split}_dataloader'))
    findings = check_data(cfg, splits, quick=True).findings
    # What cannot be read is told when the data sets are built, in their libraries' words.
    errors = [found for found in findings if found.level == 'error' and found.what != UNREAD]
    missing = [found for found in errors if found.what == FILES]
    if missing:
        raise InputError(missing[0].text)
    if errors:
        raise InputError(f'{errors[0].text}; `scopevit check {config}` tells all')
    return findings


def log_findings(findings: list[Finding], logger: logging.Logger) -> None:
    """Logs what may be meant."""
    for found in findings:
        if found.level == 'warning':
            logger.warning(f'{found.what} ({found.where}, {found.count:,}): {found.text}')
