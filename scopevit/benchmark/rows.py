"""Everything that is measured of many networks, one row for each."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scopevit.benchmark.complexity import count_complexity
from scopevit.benchmark.memory import measure_memory
from scopevit.benchmark.metrics import Score
from scopevit.benchmark.networks import Network, build_network, from_timm, network_key
from scopevit.benchmark.pages import log
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
    sources: Sequence[Path | str],
    size: tuple[int, int] | None,
    options: Sequence[SpeedOptions],
    deadline: float | None,
) -> list[Row]:
    """Measures recipes and models of timm; recipes that share network and input once.

    Args:
        sources: Config files as paths, and timm's names.
        size: Height and width in pixels; by default each model's own.
        options: How to measure speed on each device; memory is measured on these devices too.
        deadline: When the rounds should end, see `measure_speed`; None for no speed.

    Returns:
        One for each recipe and name, with its `error` where it could not be measured.
    """
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
    if measured and deadline is not None:
        for left, one in zip(range(len(options), 0, -1), options):
            now = time.perf_counter()
            add_speed(list(measured.values()), one, now + (deadline - now) / left)
    # A row is that of a network, which several recipes may share.
    return [
        dataclasses.replace(rows[key], name=source.stem, source=str(source))
        if isinstance(source, Path)
        else dataclasses.replace(rows[key], name=source, source='timm')
        for key, source in zip(keys, sources)
    ]


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
    measured: Sequence[tuple[Network, Row, float]], options: SpeedOptions, deadline: float
) -> None:
    """Adds to the rows of `measure_size` the speed on one device, or why there is none."""
    networks, rows, estimates = zip(*measured)

    def failed(index: int, error: Exception) -> None:
        row = rows[index]
        text = f'no speed on {options.device}: {error_text(error)}'
        row.error = '; '.join(filter(None, [row.error, text]))
        log(f'not measured: {row.name}: {text}')

    timings = measure_speed(networks, options, deadline, estimates, failed)
    for row, by_size in zip(rows, timings):
        row.timings[options.device] = by_size
