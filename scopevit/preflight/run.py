"""What `scopevit check` does."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.config import Config

from scopevit.engine.config import load_config, require, set_loader_defaults
from scopevit.engine.libraries import Library, find_library
from scopevit.errors import InputError
from scopevit.files import write_json
from scopevit.preflight.data import DataReport, check_data
from scopevit.preflight.findings import Finding, merge
from scopevit.preflight.model import check_model
from scopevit.preflight.report import ModelReport
from scopevit.preflight.table import print_counts, print_table, summarize


def run_check(
    config: str | Path,
    cfg_options: dict[str, Any] | None = None,
    work_dir: str | None = None,
    out: str | Path | None = None,
    quick: bool = False,
    json_path: str | Path | None = None,
    say: Callable[[str], object] = print,
) -> int:
    """Checks the data and the model of a config, and tells and draws what was found.

    Args:
        config: Config file.
        cfg_options: Values for the config by dotted key.
        work_dir: Folder for the picture, as of a training.
        out: PNG file for it instead.
        quick: Whether to look at annotations alone; no picture is drawn then, unless `out` is
            given.
        json_path: File for what was found, as JSON.
        say: Prints a line.

    Returns:
        The exit code: 1 where something is an error.

    Raises:
        InputError: If the config has errors, or a file cannot be written.
    """
    if out is not None and Path(out).suffix.lower() != '.png':
        raise InputError(f'--out takes the name of a picture, FILE.png, not {out}')
    cfg = load_config(config, cfg_options, work_dir)
    say(f'{config}: loading {cfg.get("default_scope")}')
    library = find_library(cfg.get('default_scope'))
    require(cfg, 'model', 'train_dataloader')
    set_loader_defaults(cfg, library)
    data = check_data(cfg, quick=quick)
    findings, facts = data.findings, list(describe(data))
    if not quick:
        tried = try_model(cfg, library, data, say)
        findings, facts = merge([*findings, *tried.findings]), [*facts, *tried.facts]
    picture = None if quick and out is None else Path(out or Path(cfg.work_dir, 'check.png'))
    tell(findings, facts, data, say)
    if picture is not None:
        from scopevit.preflight.picture import draw_report  # matplotlib

        draw_report(picture, cfg, data, findings)
        say(f'picture: {picture}')
    if json_path is not None:
        content = dict(config=str(config), findings=list(map(asdict, findings)), facts=dict(facts))
        write_json(json_path, content)
    say(summarize(findings))
    return int(any(found.level == 'error' for found in findings))


def try_model(
    cfg: Config, library: Library, data: DataReport, say: Callable[[str], object]
) -> ModelReport:
    """Tries the model, where the data have no errors, which would only come up again."""
    if any(found.level == 'error' for found in data.findings):
        say('the model is not tried while the data have errors')
        return ModelReport()
    return check_model(cfg, library, say)


def describe(data: DataReport) -> list[tuple[str, str]]:
    """Returns how much there is of each split."""
    facts = []
    for split in dict.fromkeys(part.split for part in data.parts):
        own = [part for part in data.parts if part.split == split]
        count, annotations = (sum(len(getattr(p, n)) for p in own) for n in ('files', 'owners'))
        told = f'{count:,} images'
        if own[0].boxes is not None:
            told += f', {annotations:,} annotations'
        facts.append((split, told))
    return facts


def tell(
    findings: list[Finding],
    facts: list[tuple[str, str]],
    data: DataReport,
    say: Callable[[str], object],
) -> None:
    """Prints what was found."""
    print_table(findings, say)
    if facts:
        say('')
        width = max(len(name) for name, _ in facts)
        for name, value in facts:
            say(f'{name.ljust(width)}  {value}')
    names, counts = data.class_table()
    if counts:
        say('')
        print_counts(names, counts, say, 'keypoint' if data.parts[0].scope == 'mmpose' else 'class')
    say('')
