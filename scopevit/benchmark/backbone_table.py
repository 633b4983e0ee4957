"""What was measured of the backbone in its forms, and the tables of it."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scopevit.benchmark.attention_kernels import AttentionCall, attention_of_forms_table
from scopevit.benchmark.forms import INFERENCE, precision
from scopevit.benchmark.pages import make_page
from scopevit.benchmark.timing import quartiles
from scopevit.report import markdown_table, number, size_text, spread

PEERS = 'peers'


@dataclass
class Measurement:
    """What was measured of a network in a form."""

    network: str
    form: str  # how it was run
    shape: tuple[int, ...]  # input of a pass, (images, channels, height, width)
    operations: int  # of a pass, two for each multiply-add
    # Median of a visit, one a round; the rounds of a case belong together.
    seconds: list[float] = field(default_factory=list)
    # Of a pass beyond network and input, gradients included; None where a compiler hides it.
    peak_bytes: int | None = None
    # What a GPU works on a pass, one a round; the rest of `seconds` it waits for the next call.
    gpu_seconds: list[float] = field(default_factory=list)
    # Of a pass of ours, blocks joined; none where a compiler hides it.
    attention: list[AttentionCall] = field(default_factory=list)
    failed: str = ''  # why it was not measured

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def speedup(self, base: 'Measurement') -> tuple[float, ...]:
        """Lower quartile, median and upper quartile of the ratios to another, round by round."""
        return quartiles([b / s for b, s in zip(base.seconds, self.seconds)])


@dataclass
class Case:
    """Measurements that were taken in turn, and the rates of the yardsticks meanwhile."""

    name: str
    measurements: list[Measurement]
    product_rates: dict[str, float] = field(default_factory=dict)  # operations a second by type
    copy_rate: float = 0.0  # bytes a second

    @property
    def failed(self) -> list[Measurement]:
        """What could not be measured."""
        return [m for m in self.measurements if m.failed]

    @property
    def measured(self) -> list[Measurement]:
        """What could be measured."""
        return [m for m in self.measurements if m.seconds]

    @property
    def plain(self) -> Measurement | None:
        """The plain implementation, if it was measured."""
        return next((m for m in self.measured if m.form == 'plain'), None)

    def describe(self) -> dict:
        """Returns the case with its figures, in types that JSON has."""
        described = dataclasses.asdict(self)
        for m, values in zip(self.measurements, described['measurements']):
            if m.seconds:
                values['median_seconds'] = m.median
                if m.gpu_seconds:
                    values['median_gpu_seconds'] = statistics.median(m.gpu_seconds)
                values['times_as_fast_as_plain'] = m.speedup(self.plain) if self.plain else None
        return described


def growth(cases: Sequence[Case]) -> list[dict]:
    """Fits how time and memory of inference with one image grow with the pixels: x ~ pixels^e.

    Returns:
        'form', 'sizes' (how many), 'time' and 'memory' (exponents; that of memory is None where it
        is not known), of the forms that were measured at three sizes or more.
    """
    found: dict[str, list[Measurement]] = {}
    for case in cases:
        for m in case.measured:
            if case.name.startswith(INFERENCE) and m.shape[0] == 1:
                found.setdefault(m.form, []).append(m)
    rows = []
    for form, measurements in found.items():
        if len(measurements) < 3:
            continue
        pixels = [math.prod(m.shape[2:]) for m in measurements]
        peaks = [m.peak_bytes for m in measurements if m.peak_bytes is not None]
        rows.append({
            'form': form,
            'sizes': len(measurements),
            'time': exponent(pixels, [m.median for m in measurements]),
            'memory': exponent(pixels, peaks) if len(peaks) == len(pixels) else None,
        })  # fmt: skip
    return rows


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Returns the exponent of the power law that fits best."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def case_table(case: Case) -> str:
    """Returns the table of a case of the backbone, a line for each form that was measured.

    What is known of none of them has no column.
    """
    base, rows = case.plain, []
    for m in case.measured:
        rate = m.operations / m.median
        needs = ''
        if base and base.peak_bytes and m.peak_bytes:
            needs = number(base.peak_bytes / m.peak_bytes)
        rows.append([
            m.form,
            number(1e3 * m.median),
            number(1e3 * statistics.median(m.gpu_seconds)) if m.gpu_seconds else '',
            spread(m.speedup(base)) if base else '',
            '' if m.peak_bytes is None else number(m.peak_bytes / 1e6),
            needs,
            number(rate / 1e9),
            f'{100 * rate / case.product_rates[precision(m.form)]:.0f}',
        ])  # fmt: skip
    columns = ['form', 'ms', 'on the GPU (ms)', 'times as fast as plain', 'memory (MB)',
               'plain needs, times as much', 'GFLOP/s', '% of product']  # fmt: skip
    known = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    cells = [[row[i] for i in known] for row in (columns, *rows)]
    return f'{markdown_table(cells[0], cells[1:])}\n{yardsticks_text(case)}\n'


def yardsticks_text(case: Case) -> str:
    """Returns a sentence about what the machine could do."""
    rates = {name: f'{rate / 1e9:.0f}' for name, rate in case.product_rates.items()}
    others = ''.join(f', in {name} {rate}' for name, rate in rates.items() if name != 'float32')
    return (
        f'In the same rounds a product of matrices reached {rates["float32"]} GFLOP/s'
        f'{others and others + ","} and a copy {case.copy_rate / 1e9:.1f} GB/s.'
    )


def peers_table(case: Case) -> str:
    """Returns the table of the classifiers, the fastest first."""
    by_network: dict[str, list[Measurement]] = {}
    for m in sorted(case.measured, key=lambda m: m.median):
        by_network.setdefault(m.network, []).append(m)
    rows = []
    for network, (best, *others) in by_network.items():
        eager = next((m for m in (best, *others) if m.form == 'eager'), None)
        images = best.shape[0]
        rows.append([
            network,
            size_text(best.shape[2:]),
            number(best.operations / images / 2e9),
            number(images / eager.median) if eager else '',
            spread([images / s for s in reversed(quartiles(best.seconds))]),
            best.form,
        ])  # fmt: skip
    columns = ['network', 'input', 'multiply-adds (G)', 'eager, images/s', 'fastest, images/s',
               'which']  # fmt: skip
    return markdown_table(columns, rows, align='lrrrrl')


def make_report(
    cases: Sequence[Case], profiles: dict[str, dict[str, dict[str, float]]], machine: dict[str, str]
) -> str:
    """Returns the tables in Markdown; profiles are seconds by case, form and group of operators."""
    parts = []
    for case in cases:
        if case.name == PEERS:
            batch_size = case.measurements[0].shape[0]
            parts += [f'## Peers, batches of {batch_size}\n', peers_table(case)]
        else:
            parts += [f'## {case.name}\n', case_table(case)]
    exponents = growth(cases)
    if exponents:
        rows = [
            [row['form'], str(row['sizes']), f'{row["time"]:.2f}',
             '' if row['memory'] is None else f'{row["memory"]:.2f}']
            for row in exponents
        ]  # fmt: skip
        parts += ['## Growth with the pixels\n']
        parts += ['Exponents of power laws through the sizes, one image, inference.\n']
        parts += [markdown_table(['form', 'sizes', 'time', 'memory'], rows)]
    for case in cases:
        attention = {m.form: m.attention for m in case.measured if m.attention}
        if attention:
            parts += [f'## Attention, {case.name}\n', attention_of_forms_table(attention)]
    for title, forms in profiles.items():
        rows = [
            [group, *(number(1e3 * seconds[group]) for seconds in forms.values())]
            for group in next(iter(forms.values()))
        ]
        parts += [f'## Where the time goes, {title}\n']
        parts += [markdown_table(['operators', *(f'{form} (ms)' for form in forms)], rows)]
    failed = [f'{case.name}, {m.network}, {m.form}: {m.failed}' for case in cases
              for m in case.failed]  # fmt: skip
    return make_page(parts, failed, machine)
