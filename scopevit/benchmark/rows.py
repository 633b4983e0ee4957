"""Everything that is measured of many networks, one row for each."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scopevit.benchmark.complexity import count_complexity
from scopevit.benchmark.memory import measure_memory
from scopevit.benchmark.metrics import Score
from scopevit.benchmark.networks import Network, build_network, from_timm, network_key
from scopevit.benchmark.speed import SpeedOptions, Timing, measure_speed
from scopevit.engine.config import load_config
from scopevit.errors import error_text


@dataclass
class Row:
    """What was measured of a model; the first five are those of its `Network`."""

    name: str
    source: str
    task: str = ''
    backbone: str = ''
    shape: tuple[int, ...] = ()
    parameters: int = 0
    multiply_adds: int = 0  # for one image
    # Peak memory of one image's forward pass, by device.
    memory_bytes: dict[str, int] = field(default_factory=dict)
    # By device and the batch size asked for; none on a device where it failed.
    timings: dict[str, dict[int, Timing]] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)  # where `metrics.json` files have some
    error: str = ''  # why nothing was measured, or not the speed


def measure_rows(
    recipes: Sequence[Path],
    timm_names: Sequence[str],
    size: tuple[int, int] | None,
    options: Sequence[SpeedOptions],
    deadline: float | None,
    log: Callable[[str], None],
) -> list[Row]:
    """Measures recipes and models of timm; recipes that share network and input once.

    Args:
        recipes: Config files.
        timm_names: timm's names.
        size: Height and width in pixels; by default each model's own.
        options: How to measure speed on each device; memory is measured on these devices too.
        deadline: When the rounds should end, see `measure_speed`; None for no speed.
        log: Takes lines about the progress.

    Returns:
        One for each recipe and name, with its `error` where it could not be measured.
    """
    sources: list[Path | str] = [*recipes, *timm_names]
    keys = []
    rows: dict[str, Row] = {}  # each by the key of a network
    measured: dict[str, tuple[Network, Row, float]] = {}
    for source in sources:
        log(f'size and memory: {source}')
        key = str(source)
        try:
            cfg = load_config(source) if isinstance(source, Path) else None
            key = network_key(cfg, size) if cfg else key
            if key not in measured:
                network = build_network(cfg, size) if cfg else from_timm(key, size)
                measured[key] = measure_size(network, [one.device for one in options])
                rows[key] = measured[key][1]
        # Whatever a library raises about one model is no reason to leave out the others.
        except Exception as error:
            rows[key] = Row('', '', error=error_text(error))
            log(f'not measured: {source}: {rows[key].error}')
        keys.append(key)
    if deadline is not None:
        for left, one in zip(range(len(options), 0, -1), options):
            now = time.perf_counter()
            add_speed(list(measured.values()), one, now + (deadline - now) / left, log)
    return [named_row(rows[key], source) for key, source in zip(keys, sources)]


def measure_size(network: Network, devices: Sequence[str]) -> tuple[Network, Row, float]:
    """Returns a network, its row without speed and scores, and the seconds of its first run."""
    complexity = count_complexity(network)[0]
    begin = time.perf_counter()
    memory_bytes = {devices[0]: measure_memory(network, devices[0])}
    seconds = time.perf_counter() - begin
    memory_bytes.update({device: measure_memory(network, device) for device in devices[1:]})
    row = Row(network.name, network.source, network.task, network.backbone, network.shape,
              complexity.parameters, complexity.multiply_adds, memory_bytes)  # fmt: skip
    return network, row, seconds


def add_speed(
    measured: Sequence[tuple[Network, Row, float]],
    options: SpeedOptions,
    deadline: float,
    log: Callable[[str], None],
) -> None:
    """Adds to the rows of `measure_size` the speed on one device, or why there is none."""
    networks = [network for network, _, _ in measured]
    rows = {id(network): row for network, row, _ in measured}

    def failed(network: Network, error: Exception) -> None:
        row = rows[id(network)]
        text = f'no speed on {options.device}: {error_text(error)}'
        row.error = '; '.join(filter(None, [row.error, text]))
        log(f'not measured: {network.name}: {text}')

    estimates = [seconds for _, _, seconds in measured]
    timings = measure_speed(networks, options, deadline, estimates, log=log, failed=failed)
    for (_, row, _), by_size in zip(measured, timings):
        row.timings[options.device] = by_size


def named_row(row: Row, source: Path | str) -> Row:
    """Returns the row of a recipe or a model of timm, from that of its network."""
    if isinstance(source, Path):
        return dataclasses.replace(row, name=source.stem, source=str(source))
    return dataclasses.replace(row, name=source, source='timm')
