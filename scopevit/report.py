"""Numbers and tables in Markdown and CSV, and scatter plots."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FormatStrFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from scopevit.errors import InputError
from scopevit.files import replacing

ACCENT, GREY = '#d55e00', '#666666'
# Where a label may stand, in points from its mark: right, left, above, below and further away.
DIRECTIONS = [(1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7)]
LABEL_OFFSETS = [(x * reach, y * reach) for reach in (7, 14, 24, 36) for x, y in DIRECTIONS]


def number(value: float) -> str:
    """Returns three significant digits, and whole numbers in full."""
    exponent = int(f'{value:.2e}'.partition('e')[2])  # of what is rounded: 99.97 is 100
    return f'{value:.{max(0, 2 - exponent)}f}'


def spread(quartiles: Sequence[float]) -> str:
    """Returns a median with its quartiles (lower, median, upper), where they differ."""
    low, median, high = map(number, quartiles)
    return f'{median} ({low}–{high})' if quartiles[0] < quartiles[2] else median


def size_text(shape: Sequence[int]) -> str:
    """Returns the sides of something, as '256×192'."""
    return '×'.join(map(str, shape))


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], align: str = '') -> str:
    """Makes a table in GitHub's Markdown, its columns in line where it is read as text.

    Columns are aligned by 'l' or 'r' for each; by default the first is on the left, the others on
    the right. A line break in a cell becomes `<br>`.
    """
    align = align or 'l' + 'r' * (len(columns) - 1)
    table = [[escape(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*table)]
    rule = ['-' * (w - 1) + ':' if a == 'r' else '-' * w for w, a in zip(widths, align)]
    lines = [
        [cell.rjust(w) if a == 'r' else cell.ljust(w) for cell, w, a in zip(row, widths, align)]
        for row in table
    ]
    return ''.join(f'| {" | ".join(line)} |\n' for line in (lines[0], rule, *lines[1:]))


def escape(cell: str) -> str:
    """Returns the text of a cell as Markdown shows it in a table."""
    return cell.replace('|', '\\|').replace('\n', '<br>')


def replace_between(text: str, begin: str, end: str, content: str, source: str) -> str:
    """Returns a text with other content between two marks.

    Raises:
        InputError: If a mark is missing; the message names the `source` of the text.
    """
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise InputError(f'{source} has no {begin.strip()} ... {end}')
    return f'{before}{begin}{content}{end}{after}'


def csv_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Makes a table of comma separated values; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


@dataclass(frozen=True)
class Point:
    """A mark of a scatter plot."""

    label: str
    x: float
    y: float
    spread: tuple[float, float] | None = None  # ends of its vertical error bar
    accent: bool = False  # whether it stands out
    hollow: bool = False  # whether it is drawn as an outline
    panel: str = ''  # title of the panel it is in


def scatter_plot(points: Sequence[Point], x_label: str, y_label: str) -> Figure:
    """Draws one point or more into panels side by side, with a logarithmic horizontal axis."""
    order = list(dict.fromkeys(point.panel for point in points))
    columns = min(2, len(order))
    rows = -(-len(order) // columns)
    figure = Figure(figsize=(8.0 * columns, 5.5 * rows), layout='constrained')
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(order) :]:
        axes.set_visible(False)
    groups = [[point for point in points if point.panel == title] for title in order]
    for axes, title, group in zip(grid, order, groups):
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.25)
        draw_points(axes, group)
    figure.canvas.draw()  # settles where the panels are; the labels must not move them
    figure.set_layout_engine('none')
    for axes, group in zip(grid, groups):
        place_labels(axes, group)
    return figure


def draw_points(axes: Axes, points: Sequence[Point]) -> None:
    """Draws the points of one panel."""
    axes.set_xscale('log')
    axes.margins(y=0.12)
    low, high = min(point.x for point in points), max(point.x for point in points)
    room = max(1.2, (high / low) ** 0.15)
    axes.set_xlim(low / room, high * room)
    for point in points:
        color = ACCENT if point.accent else GREY
        axes.errorbar(
            point.x,
            point.y,
            yerr=point.spread and [[point.y - point.spread[0]], [point.spread[1] - point.y]],
            fmt='o' if point.accent else 's',
            color=color,
            markerfacecolor='white' if point.hollow else color,
            markersize=7 if point.accent else 5,
            capsize=3,
            zorder=3,
        )
    if high / low < 20:
        # Powers of ten alone would leave such an axis with one tick or none.
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FormatStrFormatter('%g'))


def place_labels(axes: Axes, points: Sequence[Point]) -> None:
    """Writes each label where it covers the least of the marks and labels that are there."""
    frame = axes.get_window_extent()
    taken = [mark_box(axes, point) for point in points]
    for point in sorted(points, key=lambda point: not point.accent):
        label = axes.annotate(
            point.label,
            (point.x, point.y),
            xytext=LABEL_OFFSETS[0],
            textcoords='offset points',
            fontsize=8,
            color=ACCENT if point.accent else GREY,
            fontweight='bold' if point.accent else 'normal',
        )
        boxes = []
        for x, y in LABEL_OFFSETS:
            move_label(label, x, y)
            box = label.get_window_extent()
            boxes.append((sum(overlap(box, other) for other in taken) + outside(box, frame), box))
        best = min(range(len(boxes)), key=lambda i: boxes[i][0])  # the nearest of equals
        move_label(label, *LABEL_OFFSETS[best])
        taken.append(boxes[best][1])


def mark_box(axes: Axes, point: Point) -> Bbox:
    """Returns the place of a mark and its error bar, in pixels."""
    low, high = point.spread or (point.y, point.y)
    x, bottom = axes.transData.transform((point.x, low))
    top = axes.transData.transform((point.x, high))[1]
    return Bbox.from_extents(x - 5, bottom - 5, x + 5, top + 5)


def move_label(label: Annotation, x: float, y: float) -> None:
    """Moves a label to an offset from its mark, in points, away from which it extends."""
    label.set_position((x, y))
    label.set_horizontalalignment('left' if x > 0 else 'right' if x < 0 else 'center')
    label.set_verticalalignment('bottom' if y > 0 else 'top' if y < 0 else 'center')


def overlap(box: Bbox, other: Bbox) -> float:
    """Returns the area that two boxes share."""
    shared = Bbox.intersection(box, other)
    return shared.width * shared.height if shared else 0.0


def outside(box: Bbox, frame: Bbox) -> float:
    """Returns the area of a box outside of a frame."""
    return box.width * box.height - overlap(box, frame)


def write_figure(figure: Figure, path: Path) -> None:
    """Writes a figure to a file, whole or not at all; an SVG keeps its text as text."""
    metadata = {'Date': None} if path.suffix == '.svg' else None
    settings = matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': path.name})
    with replacing(path) as part, settings:
        figure.savefig(part, format=path.suffix[1:], metadata=metadata, dpi=120)
