"""Tables and points of plots from what was measured."""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from scopevit.benchmark.complexity import Complexity
from scopevit.benchmark.metrics import NOT_TRAINED
from scopevit.benchmark.networks import Network
from scopevit.benchmark.published import Published
from scopevit.benchmark.rows import Row
from scopevit.benchmark.speed import Timing
from scopevit.report import Point, csv_table, markdown_table, number, size_text, spread

# GPUs and batch, or epochs, in the name of a recipe: 8xb128, 1x, ms-3x.
SCHEDULE = re.compile(r'\d+xb\d+|(ms-)?\d+x$')
TIMING_NAMES = ('images', 'passes', 'lower_seconds', 'median_seconds', 'upper_seconds')


def latency_text(timing: Timing) -> str:
    """Returns the milliseconds a batch."""
    return spread([1e3 * seconds for seconds in timing.quartiles])


def throughput_text(timing: Timing, batch_size: int) -> str:
    """Returns the images a second, and the batch size where it had to be smaller."""
    mark = '' if timing.batch_size == batch_size else f' at batch {timing.batch_size}'
    return spread(timing.images_per_second) + mark


def measured_figures(row: Row | None, batch_sizes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Returns what was measured of a model by the titles of the columns, '' where nothing was.

    Args:
        row: The model; None where no installed library has it.
        batch_sizes: That of the latency, ..., that of the throughput, by the device where memory
            and speed were measured; empty where the speed was left out.
    """
    row = row or Row('', '')
    figures = {
        'parameters (M)': f'{row.parameters / 1e6:.2f}',
        'multiply-adds (G)': f'{row.multiply_adds / 1e9:.2f}',
    }
    for device, sizes in batch_sizes.items():
        prefix = f'{device.upper()}: ' if len(batch_sizes) > 1 else ''
        figures[f'{prefix}peak memory (MiB)'] = number(row.memory_bytes.get(device, 0) / 2**20)
        if sizes:
            first, last, timings = sizes[0], sizes[-1], row.timings.get(device)
            latency = latency_text(timings[first]) if timings else 'see below'
            throughput = throughput_text(timings[last], last) if timings else 'see below'
            figures[f'{prefix}latency of batch {first} (ms)'] = latency
            figures[f'{prefix}images/s at batch {last}'] = throughput
    return figures if row.shape else dict.fromkeys(figures, '')


def result_text(row: Row) -> str:
    """Returns the metrics of a row, one a line, or why there are none."""
    if not row.shape:
        return 'not measured, see below'
    if row.source == 'timm':
        return ''
    return '\n'.join(map(str, row.scores)) or NOT_TRAINED


def rows_table(rows: Sequence[Row], batch_sizes: Mapping[str, Sequence[int]]) -> str:
    """Returns the Markdown table of the models that were measured; see `measured_figures`."""
    titles = list(measured_figures(None, batch_sizes))
    cells = []
    for row in rows:
        measured = measured_figures(row, batch_sizes).values()
        cells.append([row.name, row.task, size_text(row.shape[1:]), *measured, result_text(row)])
    columns = ['model', 'task', 'input', *titles, 'metric (%)']
    return markdown_table(columns, cells, align=f'lll{"r" * len(titles)}l')


def published_table(
    published: Sequence[Published],
    rows: Sequence[Row],
    batch_sizes: Mapping[str, Sequence[int]],
) -> str:
    """Returns the Markdown table of published results beside what was measured of their recipes."""
    by_recipe = {Path(row.source).resolve(): row for row in rows}
    titles = list(measured_figures(None, batch_sizes))
    cells = []
    for entry in published:
        row = by_recipe[entry.recipe] if entry.recipe else None
        size = f'{entry.resolution}×{entry.resolution}'
        figures = [f'{value:.1f}' for value in (entry.params, entry.gflops, entry.top1)]
        measured = measured_figures(row, batch_sizes).values()
        result = result_text(row).removeprefix('top-1 ') if row else 'no library has it'
        own_size = size_text(row.shape[1:]) if row else ''
        cells.append([entry.system, entry.venue, size, *figures, own_size, *measured, result])
    columns = ['system', 'venue', 'published input', 'published params (M)', 'published GFLOPs',
               'published top-1', 'input here', *titles, 'top-1 here']  # fmt: skip
    return markdown_table(columns, cells, align=f'lllrrrl{"r" * len(titles)}l')


def rows_csv(rows: Sequence[Row], devices: Sequence[str]) -> str:
    """Returns everything measured as comma separated values, in units without prefix."""
    columns = ['model', 'source', 'task', 'backbone', 'channels', 'height', 'width', 'parameters',
               'multiply_adds']  # fmt: skip
    sizes = {d: sorted({s for row in rows for s in row.timings.get(d, {})}) for d in devices}
    for device in devices:
        timed = [f'batch{size}_{name}' for size in sizes[device] for name in TIMING_NAMES]
        names = ['peak_memory_bytes', *timed]
        columns += [f'{device}_{name}' for name in names] if len(devices) > 1 else names
    columns += ['metrics', 'error']
    lines = []
    for row in rows:
        line = [row.name, row.source, row.task, row.backbone, *(row.shape or [None] * 3)]
        line += [row.parameters, row.multiply_adds] if row.shape else [None] * 2
        for device in devices:
            line.append(row.memory_bytes.get(device))
            for timing in map(row.timings.get(device, {}).get, sizes[device]):
                if timing is None:
                    line += [None] * len(TIMING_NAMES)
                else:
                    line += [timing.batch_size, len(timing.seconds), *timing.quartiles]
        lines.append([*line, '; '.join(map(str, row.scores)), row.error])
    return csv_table(columns, lines)


def metric_points(rows: Sequence[Row], published: Sequence[Published]) -> list[Point]:
    """Returns the points of the metrics against multiply-adds, a panel for each task.

    Rows that were not measured have no place. Published top-1 is hollow where none was measured.
    """
    rows = [row for row in rows if row.scores and row.multiply_adds]
    points = [
        row_point(row, label, row.scores[0].mean, row.scores[0].spread)
        for row, label in zip(rows, labels(rows))
    ]
    trained = {Path(row.source).resolve() for row in rows}
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
        if entry.recipe not in trained
    ]
    return points


def throughput_points(rows: Sequence[Row], batch_sizes: Mapping[str, int]) -> list[Point]:
    """Returns the points of the images a second against multiply-adds.

    There is a panel for each task, on each device where there are several, at the device's batch
    size. Recipes of one network are one point with the shortest of their names.
    """
    points = []
    for device, batch_size in batch_sizes.items():
        timed = [row for row in rows if row.timings.get(device) and row.multiply_adds]
        # Recipes of one network share the dict of its timings.
        by_length = sorted(timed, key=lambda row: len(row.name), reverse=True)
        shortest = {id(row.timings): row for row in by_length}
        timed = [row for row in timed if shortest[id(row.timings)] is row]
        for row, label in zip(timed, labels(timed)):
            low, median, high = row.timings[device][batch_size].images_per_second
            point = row_point(row, label, median, (low, high))
            panel = f'{row.task}, {device.upper()}' if len(batch_sizes) > 1 else row.task
            points.append(dataclasses.replace(point, panel=panel))
    return points


def throughput_label(batch_sizes: Mapping[str, int]) -> str:
    """Returns the label of the axis of `throughput_points`."""
    if len(set(batch_sizes.values())) == 1:
        return f'images per second at batch {next(iter(batch_sizes.values()))}'
    each = ', '.join(f'{size} ({device.upper()})' for device, size in batch_sizes.items())
    return f'images per second at batch {each}'


def row_point(row: Row, label: str, value: float, spread: tuple[float, float] | None) -> Point:
    """Returns the point of a row in the panel of its task."""
    accent = row.backbone == 'ScopeViT'
    return Point(label, row.multiply_adds / 1e9, value, spread, accent=accent, panel=row.task)


def labels(rows: Sequence[Row]) -> list[str]:
    """Returns for each row the first of its names that no other row of its task has.

    They are the short name, that with the input's size, the whole name and that with the source.
    """
    names = []
    for row in rows:
        short = short_name(row.name)
        sized = f'{short} {size_text(row.shape[1:])}'
        names.append((short, sized, row.name, f'{row.name} ({row.source})'))
    counts = Counter((row.task, name) for row, choice in zip(rows, names) for name in set(choice))
    return [
        next((name for name in choice if counts[row.task, name] == 1), choice[-1])
        for row, choice in zip(rows, names)
    ]


def short_name(name: str) -> str:
    """Returns the name of a config up to its schedule, as 'mask-rcnn_scopevit-tiny_fpn'."""
    fields = name.split('_')
    schedules = (i for i, part in enumerate(fields) if i and SCHEDULE.match(part))
    return '_'.join(fields[: next(schedules, len(fields))])


def complexity_table(network: Network, modules: Sequence[Complexity]) -> str:
    """Returns the Markdown table of a network and its modules, without those of no size."""
    total = modules[0]
    cells = []
    for module in modules:
        if module.parameters or module.multiply_adds:
            share = f'{100 * module.multiply_adds / max(1, total.multiply_adds):.1f}'
            cells.append([module.name or network.name, *module.figures, share])
    columns = [size_text(network.shape), 'parameters (M)', 'multiply-adds (G)', 'share (%)']
    return markdown_table(columns, cells)


def speed_table(networks: Sequence[Network], timings: Sequence[dict[int, Timing]]) -> str:
    """Returns the Markdown table of the speed of networks, a line for each batch size."""
    columns = ['model', 'input', 'batch', 'passes', 'latency (ms)', 'images/s']
    cells = []
    for network, by_size in zip(networks, timings):
        for size, timing in {timing.batch_size: timing for timing in by_size.values()}.items():
            counts = [str(size), str(len(timing.seconds))]
            figures = [latency_text(timing), spread(timing.images_per_second)]
            cells.append([network.name, size_text(network.shape[1:]), *counts, *figures])
    return markdown_table(columns, cells)
