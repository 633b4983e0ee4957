"""The benchmark from the arguments of `tools/benchmark/table.py` to the files in its folder."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from scopevit.benchmark.machine import available_devices, check_device, describe_machine
from scopevit.benchmark.metrics import find_scores
from scopevit.benchmark.networks import check_timm_name, find_recipes, from_name
from scopevit.benchmark.pages import machine_table, make_folder, make_page
from scopevit.benchmark.published import Published, read_published
from scopevit.benchmark.rows import Row, measure_rows
from scopevit.benchmark.speed import BATCH_SIZES, SpeedOptions, measure_speed
from scopevit.benchmark.table import (
    metric_points,
    published_table,
    rows_csv,
    rows_table,
    speed_table,
    throughput_label,
    throughput_points,
)
from scopevit.errors import InputError
from scopevit.files import write_json, write_text
from scopevit.report import scatter_plot, write_figure

SIZE_NOTE = """\
Multiply-adds are those of convolutions, matrix products and attention for one image. Norms are not
among them; counters that add those read about 1 % more. Memory is the peak of one image's forward
pass beyond the weights.
"""
SPEED_NOTE = """\
Times are medians with their quartiles, without pre- and post-processing; all models took turns.
"""
DEFAULT_WORK_DIRS = 'work_dirs'


def run_benchmark(
    configs: Sequence[str],
    timm_names: Sequence[str],
    published: str | None,
    work_dirs: str | None,
    out: str,
    size: tuple[int, int] | None,
    device: str | None,
    max_batch_seconds: float,
    speed: bool,
    max_minutes: float,
    plot: str | None,
) -> str:
    """Writes `table.md`, which it returns, `table.csv`, `table.json`, `plot.svg` and `plot.png`.

    The arguments are those of `tools/benchmark/table.py`, whose help says what they are; the
    configs of the published results are measured as well.

    Raises:
        InputError: If something given is wrong, before anything is measured; or afterwards, if some
            of the models, or their speed, could not be measured: the report has the others and why.
    """
    begin = time.perf_counter()
    devices = (device,) if device else available_devices()
    options = [
        SpeedOptions(BATCH_SIZES[d], d, max_batch_seconds=max_batch_seconds) for d in devices
    ]
    check_device(devices[-1])
    entries = read_published(published) if published else []
    recipes = find_recipes([*configs, *(entry.recipe for entry in entries if entry.recipe)])
    timm_names = list(dict.fromkeys(timm_names))
    for name in timm_names:
        check_timm_name(name)
    if not (recipes or timm_names):
        raise InputError('nothing to measure: give configs, --timm or --published')
    has_default = Path(DEFAULT_WORK_DIRS).is_dir()
    found = find_scores(work_dirs or DEFAULT_WORK_DIRS) if work_dirs or has_default else {}
    has_metric = bool(entries) or any(recipe.stem in found for recipe in recipes)
    kind = choose_plot(plot, speed, has_metric)
    folder = make_folder(out)
    deadline = begin + 60 * max_minutes if speed else None
    rows = measure_rows([*recipes, *timm_names], size, options, deadline)
    for row in rows:
        row.scores = found.get(row.name, []) if row.source != 'timm' else []
    report = write_results(folder, rows, entries, options, speed, kind)
    failed = [row.name for row in rows if row.error]
    if failed:
        print(report)
        raise InputError(f'{len(failed)} of {len(rows)} not fully measured: {", ".join(failed)}')
    return report


def write_results(
    folder: Path,
    rows: Sequence[Row],
    published: Sequence[Published],
    options: Sequence[SpeedOptions],
    speed: bool,
    plot: str | None,
) -> str:
    """Writes the files of `run_benchmark` and returns the report; see there."""
    devices = [one.device for one in options]
    batch_sizes = {one.device: one.batch_sizes if speed else () for one in options}
    machine = describe_machine(devices[-1])
    report = make_report(rows, published, batch_sizes, machine)
    write_text(folder / 'table.md', report)
    write_text(folder / 'table.csv', rows_csv(rows, devices))
    content = {
        'machine': machine,
        'options': [dataclasses.asdict(one) for one in options],
        'rows': [dataclasses.asdict(row) for row in rows],
        'published': [dataclasses.asdict(entry) for entry in published],
    }
    write_json(folder / 'table.json', content)
    if plot == 'throughput':
        last = {device: sizes[-1] for device, sizes in batch_sizes.items()}
        points, y_label = throughput_points(rows, last), throughput_label(last)
    else:
        points, y_label = metric_points(rows, published), 'metric (%)'
    figure = scatter_plot(points, 'multiply-adds (G)', y_label) if points else None
    for path in (folder / 'plot.svg', folder / 'plot.png'):
        if figure:
            write_figure(figure, path)
        else:  # of an earlier run
            path.unlink(missing_ok=True)
    return report


def run_throughput(
    names: Sequence[str], size: tuple[int, int] | None, options: SpeedOptions, max_minutes: float
) -> str:
    """Times networks in turn, and returns the report in Markdown.

    The names are config files, or timm's; the size is height and width in pixels, by default each
    model's own. There is one round in any case.

    Raises:
        InputError: If something given is wrong, or one of the networks does not run.
    """
    check_device(options.device)
    networks = [from_name(name, size) for name in dict.fromkeys(names)]
    deadline = time.perf_counter() + 60 * max_minutes
    table = speed_table(networks, measure_speed(networks, options, deadline))
    return f'{table}\n{machine_table(describe_machine(options.device))}'


def choose_plot(plot: str | None, speed: bool, metric: bool) -> str | None:
    """Returns what to plot, None if there is nothing.

    Raises:
        InputError: If what was asked for will not be there.
    """
    if plot == 'throughput' and not speed:
        raise InputError('--plot throughput needs the speed that --no-speed leaves out')
    if plot == 'metric' and not metric:
        raise InputError(
            '--plot metric: no metrics.json of these configs below --work-dirs, and no --published'
        )
    return plot or ('metric' if metric else 'throughput' if speed else None)


def make_report(
    rows: Sequence[Row],
    published: Sequence[Published],
    batch_sizes: Mapping[str, Sequence[int]],
    machine: dict[str, str],
) -> str:
    """Returns the report in Markdown; see `measured_figures` for the batch sizes."""
    listed = {entry.recipe for entry in published}
    others = [row for row in rows if Path(row.source).resolve() not in listed]
    parts = ['# Benchmark\n']
    if published:
        table = published_table(published, rows, batch_sizes)
        parts += ['## Beside the published table\n', table]
    if others:
        parts += ['## Models\n', rows_table(others, batch_sizes)]
    parts.append(SIZE_NOTE + (SPEED_NOTE if any(batch_sizes.values()) else ''))
    return make_page(parts, [f'{row.name}: {row.error}' for row in rows if row.error], machine)
