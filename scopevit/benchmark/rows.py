"""Everything that is measured of many networks, one row for each."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from scopevit.benchmark.complexity import count_complexity
from scopevit.benchmark.memory import measure_memory
from scopevit.benchmark.metrics import Score
from scopevit.benchmark.networks import Network, build_network, from_timm, network_key
from scopevit.benchmark.speed import SpeedOptions, Timing, measure_speed
from scopevit.engine.config import load_config
from scopevit.errors import InputError


@dataclass
class Row:
    """What was measured of a model.

    Attributes:
        name: Stem of its config, or timm's name.
        source: Path of its config, or 'timm'.
        task: 'classification', 'detection', 'segmentation' or 'pose'.
        backbone: Type of its backbone.
        shape: One input, (channels, height, width).
        parameters: Number of parameters.
        multiply_adds: Multiply-adds for one image.
        memory_bytes: Peak memory of one image's forward pass.
        timings: Times by the batch size asked for.
        scores: Metrics, where `metrics.json` files have some.
        error: Why nothing was measured.
    """

    name: str
    source: str
    task: str = ''
    backbone: str = ''
    shape: tuple[int, ...] = ()
    parameters: int = 0
    multiply_adds: int = 0
    memory_bytes: int = 0
    timings: dict[int, Timing] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    error: str = ''


def measure_rows(
    recipes: Sequence[Path],
    timm_names: Sequence[str],
    size: tuple[int, int] | None,
    options: SpeedOptions,
    deadline: float | None,
    log: Callable[[str], None],
) -> list[Row]:
    """Measures recipes and models of timm; recipes that share network and input once.

    Args:
        recipes (Sequence[Path]): Config files.
        timm_names (Sequence[str]): timm's names.
        size (tuple[int, int] | None): Height and width in pixels; by default each model's own.
        options (SpeedOptions): How to measure speed; memory is measured on its device too.
        deadline (float | None): When the rounds should end, see `measure_speed`; None for no speed.
        log (Callable): Takes lines about the progress.

    Returns:
        list[Row]: One for each recipe and name, with its `error` where it could not be measured.
    """
    rows, networks, measured, estimates = [], {}, {}, []
    for source in (*recipes, *timm_names):
        log(f'size and memory: {source}')
        try:
            cfg = load_config(source) if isinstance(source, Path) else None
            key = network_key(cfg, size) if cfg else source
            if key not in networks:
                network = build_network(cfg, size) if cfg else from_timm(source, size)
                measured[key], seconds = measure_size(network, options.device)
                networks[key] = network
                estimates.append(seconds)
            rows.append(named_row(measured[key], cfg))
        # Whatever a library raises about one model is no reason to leave out the others.
        except Exception as error:
            rows.append(failed_row(source, error))
            log(f'not measured: {rows[-1].name}: {rows[-1].error}')
    if networks and deadline is not None:
        timings = measure_speed(list(networks.values()), options, deadline, estimates, log=log)
        for row, timing in zip(measured.values(), timings):
            row.timings.update(timing)  # rows of the same network share this dict
    return rows


def measure_size(network: Network, device: str) -> tuple[Row, float]:
    """Returns the row of a network, without speed and scores, and the seconds of its first run."""
    complexity = count_complexity(network)[0]
    begin = time.perf_counter()
    memory_bytes = measure_memory(network, device)
    seconds = time.perf_counter() - begin
    row = Row(
        name=network.name,
        source=network.source,
        task=network.task,
        backbone=network.backbone,
        shape=network.shape,
        parameters=complexity.parameters,
        multiply_adds=complexity.multiply_adds,
        memory_bytes=memory_bytes,
    )
    return row, seconds


def named_row(row: Row, cfg: Config | None) -> Row:
    """Returns a row for a recipe whose network is measured already."""
    if cfg is None:
        return row
    return dataclasses.replace(row, name=Path(cfg.filename).stem, source=str(cfg.filename))


def failed_row(source: Path | str, error: Exception) -> Row:
    """Returns the row of a model that could not be measured."""
    message = ' '.join(str(error).split())
    if not isinstance(error, InputError):
        message = f'{type(error).__name__}: {message}'
    if isinstance(source, Path):
        return Row(source.stem, str(source), error=message)
    return Row(source, 'timm', error=message)
