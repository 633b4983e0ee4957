"""A validation step, up to the metrics."""

import io
import time
from collections.abc import Callable
from contextlib import redirect_stdout

import torch
from mmengine.runner import Runner

from scopevit.preflight.report import ModelReport
from scopevit.preflight.steps import duration


def check_validation(runner: Runner, report: ModelReport, say: Callable[[str], object]) -> None:
    """Validates one batch: metrics that fail would do so after an epoch, and end the training."""
    loop = runner.val_loop
    if loop is None:
        return
    say('validating one batch')
    loader, evaluator = loop.dataloader, loop.evaluator
    batch = next(iter(loader))
    runner.model.eval()
    start = time.perf_counter()
    with torch.no_grad():
        outputs = runner.model.val_step(batch)
    # Metrics print tables of numbers that say nothing of a new model.
    with redirect_stdout(io.StringIO()):
        evaluator.process(data_samples=outputs, data_batch=batch)
        seconds = time.perf_counter() - start
        evaluator.evaluate(len(outputs))
    runner.model.train()
    batches = len(loader)
    text = f'{duration(batches * seconds)} for {batches} batches, without loading and metrics'
    report.facts.append(('time of a validation', text))
