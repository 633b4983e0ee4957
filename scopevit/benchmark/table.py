"""Tables and points of plots from what was measured."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from scopevit.benchmark.complexity import Complexity
from scopevit.benchmark.metrics import Score
from scopevit.benchmark.networks import Network
from scopevit.benchmark.published import Published
from scopevit.benchmark.report import Point, csv_table, markdown_table
from scopevit.benchmark.rows import Row
from scopevit.benchmark.speed import Timing

NOT_TRAINED = 'not trained yet'
# GPUs and batch, or epochs, in the name of a recipe: 8xb128, 1x, ms-3x.
SCHEDULE = re.compile(r'\d+xb\d+|(ms-)?\d+x$')


def decimals(value: float) -> str:
    """Returns a number with about three digits."""
    return f'{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}'


def spread_text(quartiles: tuple[float, float, float], factor: float = 1.0) -> str:
    """Returns a median and its quartiles, if there are any beside it."""
    low, median, high = (decimals(factor * value) for value in quartiles)
    return f'{median} ({low}–{high})' if quartiles[0] < quartiles[2] else median


def size_text(row: Row) -> str:
    """Returns height and width of a row's input."""
    return '×'.join(map(str, row.shape[1:]))


def throughput_text(timing: Timing, batch_size: int) -> str:
    """Returns the images a second, and the batch size where it had to be smaller."""
    mark = '' if timing.batch_size == batch_size else f' at batch {timing.batch_size}'
    return spread_text(timing.images_per_second) + mark


def measured_columns(batch_sizes: Sequence[int]) -> list[str]:
    """Returns the titles of `measured_cells`.

    Args:
        batch_sizes (Sequence[int]): That of the latency, ..., that of the throughput; empty where
            the speed was left out.
    """
    columns = ['parameters (M)', 'multiply-adds (G)', 'peak memory (MiB)']
    if batch_sizes:
        columns.append(f'latency of batch {batch_sizes[0]} (ms)')
        columns.append(f'images/s at batch {batch_sizes[-1]}')
    return columns


def measured_cells(row: Row | None, batch_sizes: Sequence[int]) -> list[str]:
    """Returns what was measured of a model as the cells of `measured_columns`."""
    if row is None or row.error:
        return [''] * len(measured_columns(batch_sizes))
    cells = [
        f'{row.parameters / 1e6:.2f}',
        f'{row.multiply_adds / 1e9:.2f}',
        decimals(row.memory_bytes / 2**20),
    ]
    if batch_sizes:
        first, last = batch_sizes[0], batch_sizes[-1]
        cells.append(spread_text(row.timings[first].quartiles, 1e3))
        cells.append(throughput_text(row.timings[last], last))
    return cells


def result_text(row: Row) -> str:
    """Returns the metrics of a row, one a line, or why there are none."""
    if row.error:
        return 'not measured, see below'
    if row.source == 'timm':
        return ''
    return '\n'.join(map(str, row.scores)) or NOT_TRAINED


def rows_table(rows: Sequence[Row], batch_sizes: Sequence[int]) -> str:
    """Returns the Markdown table of the models that were measured."""
    measured = measured_columns(batch_sizes)
    cells = [
        [row.name, row.task, size_text(row), *measured_cells(row, batch_sizes), result_text(row)]
        for row in rows
    ]
    columns = ['model', 'task', 'input', *measured, 'metric (%)']
    return markdown_table(columns, cells, align=f'lll{"r" * len(measured)}l')


def published_table(
    published: Sequence[Published], rows: Sequence[Row], batch_sizes: Sequence[int]
) -> str:
    """Returns the Markdown table of published results beside what was measured."""
    by_source = {Path(row.source): row for row in rows}
    cells = []
    for entry in published:
        row = by_source[Path(entry.config)] if entry.config else None
        size = f'{entry.resolution}×{entry.resolution}'
        figures = [f'{value:.1f}' for value in (entry.params, entry.gflops, entry.top1)]
        measured = measured_cells(row, batch_sizes)
        result = result_text(row).removeprefix('top-1 ') if row else 'no library has it'
        own_size = size_text(row) if row else ''
        cells.append([entry.system, entry.venue, size, *figures, own_size, *measured, result])
    columns = [
        'system',
        'venue',
        'published input',
        'published params (M)',
        'published GFLOPs',
        'published top-1',
        'input here',
        *measured_columns(batch_sizes),
        'top-1 here',
    ]
    right = 'r' * len(measured_columns(batch_sizes))
    return markdown_table(columns, cells, align=f'lllrrrl{right}l')


def rows_csv(rows: Sequence[Row]) -> str:
    """Returns everything measured as comma separated values, in units without prefix."""
    sizes = sorted({size for row in rows for size in row.timings})
    columns = ['model', 'source', 'task', 'backbone', 'channels', 'height', 'width', 'parameters',
               'multiply_adds', 'peak_memory_bytes']  # fmt: skip
    for size in sizes:
        names = ('images', 'passes', 'lower_seconds', 'median_seconds', 'upper_seconds')
        columns += [f'batch{size}_{name}' for name in names]
    columns += ['metrics', 'error']
    lines = []
    for row in rows:
        line = [row.name, row.source, row.task, row.backbone, *(row.shape or [None] * 3)]
        line += [row.parameters, row.multiply_adds, row.memory_bytes] if row.shape else [None] * 3
        for size in sizes:
            timing = row.timings.get(size)
            line += (
                [timing.batch_size, len(timing.seconds), *timing.quartiles]
                if timing
                else [None] * 5
            )
        lines.append([*line, '; '.join(map(str, row.scores)), row.error])
    return csv_table(columns, lines)


def plot_points(
    rows: Sequence[Row], published: Sequence[Published], kind: str, batch_size: int
) -> list[Point]:
    """Returns the points of a plot against multiply-adds, a panel for each task.

    Args:
        rows (Sequence[Row]): What was measured.
        published (Sequence[Published]): Published top-1, drawn hollow in a plot of the metric where
            none was measured.
        kind (str): 'metric' or 'throughput'.
        batch_size (int): Batch size of the throughput.
    """
    if kind == 'throughput':
        # Recipes of one network share the dict of its timings.
        rows = list({id(row.timings): row for row in reversed(rows) if row.timings}.values())[::-1]
        values = [throughput_value(row, batch_size) for row in rows]
    else:
        rows = [row for row in rows if row.scores]
        values = [score_value(row.scores[0]) for row in rows]
    points = [
        Point(
            label,
            row.multiply_adds / 1e9,
            value,
            spread,
            accent=row.backbone == 'ScopeViT',
            panel=row.task,
        )
        for row, label, (value, spread) in zip(rows, labels(rows), values)
    ]
    if kind == 'metric':
        trained = {Path(row.source) for row in rows}
        points += [
            Point(
                f'{entry.system} (published)',
                entry.gflops,
                entry.top1,
                accent=entry.system.startswith('ScopeViT'),
                hollow=True,
                panel='classification',
            )
            for entry in published
            if not entry.config or Path(entry.config) not in trained
        ]
    return points


def throughput_value(row: Row, batch_size: int) -> tuple[float, tuple[float, float]]:
    """Returns the median images a second, and the quartiles."""
    low, median, high = row.timings[batch_size].images_per_second
    return median, (low, high)


def score_value(score: Score) -> tuple[float, tuple[float, float] | None]:
    """Returns the mean of a metric, and the ends of its deviation."""
    if score.deviation is None:
        return score.mean, None
    return score.mean, (score.mean - score.deviation, score.mean + score.deviation)


def labels(rows: Sequence[Row]) -> list[str]:
    """Returns a short label for each row, with the input's size where two would be the same."""
    names = [short_name(row.name) for row in rows]
    counts = Counter(zip(names, (row.task for row in rows)))
    return [
        f'{name} {size_text(row)}' if counts[name, row.task] > 1 else name
        for name, row in zip(names, rows)
    ]


def short_name(name: str) -> str:
    """Returns the name of a config up to its schedule, as 'mask-rcnn_scopevit-tiny_fpn'."""
    fields = name.split('_')
    schedules = (i for i, part in enumerate(fields) if i and SCHEDULE.match(part))
    return '_'.join(fields[: next(schedules, len(fields))])


def complexity_table(network: Network, modules: Sequence[Complexity]) -> str:
    """Returns the Markdown table of a network and its modules, without those of no size."""
    total = modules[0]
    cells = [
        [
            module.name or network.name,
            f'{module.parameters / 1e6:.3f}',
            f'{module.multiply_adds / 1e9:.3f}',
            f'{100 * module.multiply_adds / max(1, total.multiply_adds):.1f}',
        ]
        for module in modules
        if module.parameters or module.multiply_adds
    ]
    size = '×'.join(map(str, network.shape))
    return markdown_table([size, 'parameters (M)', 'multiply-adds (G)', 'share (%)'], cells)


def speed_table(networks: Sequence[Network], timings: Sequence[dict[int, Timing]]) -> str:
    """Returns the Markdown table of the speed of networks, a line for each batch size."""
    columns = ['model', 'input', 'batch', 'passes', 'latency (ms)', 'images/s']
    cells = [
        [
            network.name,
            '×'.join(map(str, network.shape[1:])),
            str(timing.batch_size),
            str(len(timing.seconds)),
            spread_text(timing.quartiles, 1e3),
            spread_text(timing.images_per_second),
        ]
        for network, by_size in zip(networks, timings)
        for timing in {timing.batch_size: timing for timing in by_size.values()}.values()
    ]
    return markdown_table(columns, cells)
