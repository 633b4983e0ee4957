"""The picture of a check: classes, sizes, and some samples as the training sees them."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from mmengine.config import Config

from scopevit.files import replacing
from scopevit.preflight.data import DataReport
from scopevit.preflight.findings import Finding
from scopevit.preflight.pictured import Sample, draw_samples
from scopevit.preflight.samples import object_sizes
from scopevit.preflight.table import summarize

COLORS = {'train': '#0072b2', 'val': '#e69f00', 'test': '#009e73'}
MARK = '#c0392b'  # of what has a finding, and of anchors
MOST_NAMED = 40  # classes whose names have room
LONGEST_NAME = 20
UNEVEN = 50  # times as many of one as of another, for an axis of powers of ten
MOST_POINTS = 20_000
SAMPLES = 8
COLUMNS = 4
WIDTH = 16  # inches


def draw_report(path: Path, cfg: Config, data: DataReport, findings: list[Finding]) -> None:
    """Draws what a check found into a PNG file, whole or not at all.

    Args:
        path: The file.
        cfg: Config that was checked.
        data: What was found in the data.
        findings: All findings.
    """
    samples = draw_samples(data.parts, findings, SAMPLES)
    rows = -(-len(samples) // COLUMNS)
    tops = [5.0] + [4.6 * rows] * bool(rows)
    figure = Figure((WIDTH, sum(tops) + 0.6), dpi=100, layout='constrained')
    name = shorten(Path(cfg.filename).name, 80)
    figure.suptitle(f'{name}: {summarize(findings)}', fontsize=13)
    parts = figure.subfigures(len(tops), 1, height_ratios=tops, squeeze=False).ravel()
    draw_numbers(parts[0], cfg, data)
    if samples:
        draw_grid(parts[1], samples, rows)
    with replacing(path) as part:
        FigureCanvasAgg(figure).print_png(str(part))


def draw_numbers(figure: SubFigure, cfg: Config, data: DataReport) -> None:
    """Draws the classes and the sizes."""
    panels: list[Any] = []
    if data.class_table()[1]:
        panels.append(draw_classes)
    if any(len(object_sizes(data.parts, split)[0]) for split in COLORS):
        panels.append(draw_objects)
    if image_sizes(data):
        panels.append(draw_image_sizes)
    if not panels:
        return
    ratios = [2.2 if panel is draw_classes else 1.0 for panel in panels]
    axes = figure.subplots(1, len(panels), width_ratios=ratios, squeeze=False).ravel()
    for ax, panel in zip(axes, panels):
        panel(ax, cfg, data)
        ax.spines[['top', 'right']].set_visible(False)


def draw_classes(ax: Axes, cfg: Config, data: DataReport) -> None:
    """Draws how often each class occurs in each split."""
    names, counts = data.class_table()
    everything = np.concatenate(list(counts.values()))
    positive = everything[everything > 0]
    logarithmic = bool(len(positive)) and positive.max() > UNEVEN * positive.min()
    what = {'mmpose': 'visible keypoints', 'mmseg': 'images with the class'}
    title = what.get(data.parts[0].scope, 'annotations by class')
    if len(names) <= MOST_NAMED:
        width = 0.8 / len(counts)
        for i, (split, numbers) in enumerate(counts.items()):
            places = np.arange(len(names)) + (i - (len(counts) - 1) / 2) * width
            ax.bar(places, numbers, width, color=COLORS[split], label=split)
        turned = len(names) > 4
        ax.set_xticks(
            np.arange(len(names)),
            [shorten(name) for name in names],
            rotation=45 if turned else 0,
            ha='right' if turned else 'center',
            rotation_mode='anchor',
        )
        never = [i for i in range(len(names)) if any(n[i] == 0 for n in counts.values())]
        for i in never:
            ax.get_xticklabels()[i].set_color(MARK)
        if never:
            title += '; red: never in a split'
    else:
        order = np.argsort(-next(iter(counts.values())), kind='stable')
        for split, numbers in counts.items():
            ax.step(np.arange(len(names)), numbers[order], where='mid', color=COLORS[split],
                    label=split, linewidth=1.2)  # fmt: skip
        ends = f'from {shorten(names[order[0]])} to {shorten(names[order[-1]])}'
        ax.set_xlabel(f'{len(names)} classes, the most frequent first, {ends}')
    if logarithmic:
        ax.set_yscale('log')
        ax.set_ylim(bottom=0.5)
    else:
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(x=0.01)
    ax.set_title(title, fontsize=11)
    ax.legend(frameon=False, ncols=len(counts), loc='lower right', bbox_to_anchor=(1, 1))


def draw_objects(ax: Axes, cfg: Config, data: DataReport) -> None:
    """Draws the sizes of objects; in detection as the network sees them, beside its anchors."""
    from scopevit.preflight.anchors import anchor_sizes, smallest_stride
    from scopevit.preflight.resizing import input_factors

    detects = data.parts[0].scope == 'mmdet'
    sides = {}
    for split in COLORS:
        sizes, images = object_sizes(data.parts, split)
        if len(sizes):
            factors = input_factors(cfg, images) if detects else 1.0
            sides[split] = np.sqrt((sizes * factors).prod(1))
    marks = anchor_sizes(cfg)
    finest = smallest_stride(cfg) if detects else None
    strides = [finest] if finest else []
    everything = np.concatenate([*sides.values(), marks, strides])
    low, high = max(0.5, everything.min() / 1.5), everything.max() * 1.5
    bins = np.geomspace(low, high, 40)
    for split, values in sides.items():
        filled = split == 'train'
        ax.hist(
            values,
            bins.tolist(),
            weights=np.full(len(values), 100 / len(values)),
            histtype='stepfilled' if filled else 'step',
            color=COLORS[split],
            alpha=0.6 if filled else 1,
            linewidth=1.5,
            label=split,
        )
    ax.set_xscale('log')
    ax.set_xlim(low, high)
    top = ax.get_ylim()[1]
    ax.set_ylim(0, 1.1 * top)
    if marks:
        ax.plot(marks, [1.05 * top] * len(marks), '|', color=MARK, markersize=12, label='anchors')
    for stride in strides:
        ax.axvline(stride, color='0.4', linestyle=':', label='finest stride')
    where = 'the network' if detects else 'the image'
    ax.set_xlabel(f'root of the area, in pixels of {where}')
    ax.set_ylabel('% of the objects')
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    ax.xaxis.set_major_formatter('{x:g}')
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_title('object sizes', fontsize=11, pad=24)
    ax.legend(frameon=False, fontsize=8, loc='lower center', bbox_to_anchor=(0.5, 1), ncols=4,
              columnspacing=1, handlelength=1.5)  # fmt: skip


def image_sizes(data: DataReport) -> dict[str, np.ndarray]:
    """Returns widths and heights of the images of each split, (N, 2): stored, else annotated."""
    found: dict[str, list[Any]] = {}
    for part in data.parts:
        for i, file in enumerate(part.files):
            opened = data.opened.get(file)
            if opened is not None and not opened.problem:
                found.setdefault(part.split, []).append(opened.size)
            elif opened is None and part.arrays:
                found.setdefault(part.split, []).append(part.arrays[i].shape[1::-1])
            elif opened is None and len(part.sizes) > i and part.sizes[i].all():
                found.setdefault(part.split, []).append(tuple(part.sizes[i]))
    return {split: np.array(sizes, float) for split, sizes in found.items()}


def draw_image_sizes(ax: Axes, cfg: Config, data: DataReport) -> None:
    """Draws width against height of the images, larger dots for more of one size."""
    found = image_sizes(data)
    for split, sizes in found.items():
        unique, counts = np.unique(sizes, axis=0, return_counts=True)
        if len(unique) > MOST_POINTS:
            chosen = np.random.default_rng(0).choice(len(unique), MOST_POINTS, replace=False)
            unique, counts = unique[chosen], counts[chosen]
        area = 14 + 120 * counts / counts.max() * (len(unique) < 200)
        filled = split == 'train'
        ax.scatter(
            unique[:, 0],
            unique[:, 1],
            s=area,
            alpha=0.55 if filled else 0.9,
            linewidths=1.2,
            facecolors=COLORS[split] if filled else 'none',
            edgecolors=COLORS[split],
            label=f'{split}: {told(unique)}',
        )
    largest = max(float(sizes.max()) for sizes in found.values())
    ax.set_xlim(0, 1.1 * largest)
    ax.set_ylim(0, 1.35 * largest)
    ax.set_xlabel('width')
    ax.set_ylabel('height')
    ax.set_title('images, in pixels', fontsize=11)
    ax.legend(frameon=False, fontsize=8, loc='upper left')


def told(sizes: np.ndarray) -> str:
    """Returns how many sizes there are, for a legend."""
    if len(sizes) == 1:
        return 'all {:g}x{:g}'.format(*sizes[0])
    return f'{len(sizes)} sizes'


def draw_grid(figure: SubFigure, samples: list[Sample], rows: int) -> None:
    """Draws samples, those with findings in red frames."""
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, sample in zip(axes, samples):
        ax.imshow(sample.pixels)
        ax.set_axis_on()
        ax.set_xticks([])
        ax.set_yticks([])
        color = MARK if sample.found else '0.8'
        for spine in ax.spines.values():
            spine.set_color(color)
            spine.set_linewidth(3 if sample.found else 1)
        name = f'{sample.split}: {shorten(sample.name, 38)}'
        ax.set_title(f'{name}\n{shorten(sample.found, 44)}' if sample.found else name,
                     fontsize=9, color=MARK if sample.found else 'black')  # fmt: skip


def shorten(text: str, length: int = LONGEST_NAME) -> str:
    """Returns a text as matplotlib takes it, the middle left out where it is long."""
    if len(text) > length:
        half = (length - 1) // 2
        text = f'{text[:half]}…{text[-half:]}'
    return text.replace('$', r'\$')  # no formula
