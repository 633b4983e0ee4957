"""Time and memory of the backbone in its forms, against a plain implementation and its peers.

A case is a mode, an image size and a batch size, or the peers' classifiers. Everything that a case
compares is built first, in a process of its own, and then timed in turn, together with a matrix
product and a copy that show what the machine can do at the time.
"""

import dataclasses
import math
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from scopevit.benchmark.complexity import count_complexity
from scopevit.benchmark.forms import (
    INFERENCE,
    TRAINING,
    Pass,
    check_form,
    make_backbone,
    make_classifier,
)
from scopevit.benchmark.machine import check_device, describe_machine
from scopevit.benchmark.memory import PeakMemory
from scopevit.benchmark.networks import Network, from_config, noise_images
from scopevit.benchmark.published import read_published
from scopevit.benchmark.report import markdown_table
from scopevit.benchmark.run import log, make_folder
from scopevit.benchmark.speed import quartiles, synchronize
from scopevit.errors import InputError
from scopevit.files import write_json, write_text
from scopevit.models.checks import MIN_IMAGE_SIZE
from scopevit.models.sizes import resolve_arch

PEERS = 'peers'
FASTEST = 'deployed+compiled'
INTERPRETED = ('plain', 'eager', 'channels-last', 'deployed', 'bf16')
# To compile takes longer than to time all forms of a case, hence only where the question is.
DEFAULT_CASES = {
    'inference-256x256-b1': (*INTERPRETED, FASTEST),
    'inference-256x256-b8': (*INTERPRETED, 'compiled', FASTEST),
    'inference-512x512-b1': (*INTERPRETED, FASTEST),
    'inference-512x512-b8': ('plain', 'eager', 'deployed'),
    'inference-1024x1024-b1': (*INTERPRETED, FASTEST),
    'inference-800x1333-b1': INTERPRETED,
    'inference-256x192-b1': INTERPRETED,
    'inference-256x192-b8': INTERPRETED,
    'training-256x256-b8': ('plain', 'eager', 'channels-last', 'checkpointed', 'bf16', 'compiled'),
    'training-512x512-b2': ('plain', 'eager', 'checkpointed', 'bf16'),
    PEERS: ('eager', FASTEST),
}
PEER_BATCH_SIZE = 8
PROFILED_CASES = ('inference-256x256-b8', 'inference-1024x1024-b1')
# A backward pass counts as two forward passes.
OPERATIONS = {INFERENCE: 2, TRAINING: 6}  # for each multiply-add of the forward pass

MIN_ROUNDS = 5
VISIT_SECONDS = 0.3

# Groups of operators by parts of their names; the first that fits counts. Linear layers of the
# backbone are convolutions on a CPU.
OPERATOR_GROUPS = {
    'attention': ('attention', 'softmax', 'bmm', 'masked_fill'),
    'convolutions and linear layers': ('conv', 'addmm', 'aten::mm', 'linear'),
    'norms': ('norm',),
    'activations': ('gelu', 'relu', 'clamp', 'threshold'),
    'copies': ('copy', 'clone', 'aten::cat', 'pad', 'index', 'fill', 'zero'),
}


@dataclass
class Measurement:
    """What was measured of a network in a form.

    Attributes:
        network: Name of the network.
        form: How it was run.
        shape: Input of a pass, (images, channels, height, width).
        operations: Of a pass, two for each multiply-add.
        seconds: Median of a visit, one a round; the rounds of a case belong together.
        peak_bytes: Peak memory of a pass beyond the network and its input, gradients included; None
            where a compiler hides it.
        failed: Why it was not measured, '' if it was.
    """

    network: str
    form: str
    shape: tuple[int, ...]
    operations: int
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    failed: str = ''

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def speedup(self, base: 'Measurement') -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of the ratios to another, round by round."""
        return quartiles([b / s for b, s in zip(base.seconds, self.seconds)])


@dataclass
class Case:
    """Measurements that were taken in turn, and the rates of the yardsticks meanwhile."""

    name: str
    measurements: list[Measurement]
    product_rate: float  # operations a second
    copy_rate: float  # bytes a second

    @property
    def failed(self) -> list[Measurement]:
        """What could not be measured."""
        return [m for m in self.measurements if m.failed]

    def find(self, form: str) -> Measurement | None:
        """Returns the measurement of a form of the backbone, if there is one."""
        return next((m for m in self.measurements if m.form == form and m.seconds), None)


def parse_case(name: str) -> tuple[str, tuple[int, int], int]:
    """Returns the mode, (height, width) and batch size that a case's name says.

    Raises:
        InputError: If it says none.
    """
    match = re.fullmatch(rf'({INFERENCE}|{TRAINING})-(\d+)x(\d+)-b([1-9]\d*)', name)
    if match is None:
        raise InputError(
            f'--cases takes {PEERS} and names such as inference-512x512-b1 or training-256x256-b8, '
            f'not {name!r}'
        )
    mode, height, width, batch_size = match.groups()
    size = int(height), int(width)
    if min(size) < MIN_IMAGE_SIZE:
        raise InputError(f'--cases: {name}: a side must be {MIN_IMAGE_SIZE} pixels or more')
    return mode, size, int(batch_size)


def default_forms(name: str) -> tuple[str, ...]:
    """Returns the forms in which a case is measured where none are asked for."""
    if name in DEFAULT_CASES:
        return DEFAULT_CASES[name]
    return INTERPRETED if name.startswith(INFERENCE) else ('plain', 'eager', 'checkpointed', 'bf16')


# Measuring ----------------------------------------------------------------------------------------


def yardsticks(device: str) -> tuple[Callable[[], object], float, Callable[[], object], float]:
    """Returns a product of large matrices and its operations, a large copy and its bytes."""
    side = 8192 if device == 'cuda' else 2048
    source = torch.zeros(2**26, device=device)
    target = torch.empty_like(source)
    left, right = torch.randn(2, side, side, device=device)
    if device == 'cpu' and torch.backends.mkldnn.is_available():
        # torch would take MKL, which reaches half of this on some processors.
        left, right = left.to_mkldnn(), right.to_mkldnn()

    def product() -> None:
        F.linear(left, right)
        synchronize(device)

    def copy() -> None:
        target.copy_(source)
        synchronize(device)

    return product, 2.0 * side**3, copy, 2.0 * source.nbytes


def measure(
    name: str, candidates: Sequence[tuple[Measurement, Callable[[], Pass]]], device: str
) -> Case:
    """Builds the candidates of a case and times them in turn.

    What does not run is kept with the reason, and the others go on.
    """
    runs: list[tuple[Measurement, Pass]] = []
    for measurement, make in candidates:
        log(f'{name}: preparing {measurement.network}, {measurement.form}')
        try:
            run = make()
            run.prepare()
        # Whatever a library or a compiler raises.
        except Exception as error:
            cause = ''.join(str(error).strip().splitlines()[:1])
            measurement.failed = f'{type(error).__name__}: {cause}'
            continue
        runs.append((measurement, run))
    product, operations, copy, copied = yardsticks(device)
    products, copies = [], []
    begin = time.perf_counter()
    for _ in range(MIN_ROUNDS):
        for measurement, run in runs:
            measurement.seconds.append(visit(run))
        products.append(visit(product))
        copies.append(visit(copy))
    log(f'{name}: {MIN_ROUNDS} rounds took {time.perf_counter() - begin:.0f} s')
    for measurement, run in runs:
        measurement.peak_bytes = peak_memory(run)
    measurements = [measurement for measurement, _ in candidates]
    product_rate = operations / statistics.median(products)
    return Case(name, measurements, product_rate, copied / statistics.median(copies))


def visit(run: Callable[[], object]) -> float:
    """Returns the seconds that a run takes; the median of several if it is a short one."""
    begin = time.perf_counter()
    run()  # finds the data of others in the caches
    first = time.perf_counter() - begin
    if first > 10 * VISIT_SECONDS:
        return first
    seconds = []
    while sum(seconds) < VISIT_SECONDS:
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def peak_memory(run: Pass) -> int | None:
    """Returns the peak memory of a pass beyond the network and its input."""
    run.module.zero_grad(set_to_none=True)
    if run.device == 'cuda':
        synchronize(run.device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    if 'compiled' in run.parts:
        return None
    with PeakMemory() as memory:
        run(torch.no_grad)
    return memory.peak_bytes


def backbone_case(name: str, forms: Sequence[str], arch: str, device: str) -> Case:
    """Measures the backbone in forms."""
    mode, size, batch_size = parse_case(name)
    shape = (batch_size, 3, *size)
    network = Network(
        'ScopeViT', arch, 'classification', 'ScopeViT', shape[1:], make_backbone('eager', arch)
    )
    images = network.make_input(batch_size)
    operations = OPERATIONS[mode] * batch_size * count_complexity(network)[0].multiply_adds
    candidates = [
        (
            Measurement('ScopeViT', form, shape, operations),
            lambda form=form: Pass(make_backbone(form, arch), form, mode, images, device),
        )
        for form in forms
    ]
    return measure(name, candidates, device)


def peers_case(forms: Sequence[str], published: str, device: str) -> Case:
    """Measures the classifiers of the published table, each at its resolution, in batches.

    Of the forms, the peers have those that any network has.
    """
    candidates = []
    for entry in read_published(published):
        if entry.config is None:
            continue
        network = from_config(entry.recipe)
        multiply_adds = count_complexity(network)[0].multiply_adds
        is_ours = network.backbone == 'ScopeViT'
        shape = (PEER_BATCH_SIZE, *network.shape)
        images = network.make_input(PEER_BATCH_SIZE)
        for form in forms if is_ours else dict.fromkeys(map(form_of_any, forms)):
            candidates.append((
                Measurement(entry.system, form, shape, 2 * shape[0] * multiply_adds),
                lambda form=form, module=network.module, images=images: Pass(
                    make_classifier(form, module), form, INFERENCE, images, device
                ),
            ))  # fmt: skip
    return measure(PEERS, candidates, device)


def form_of_any(form: str) -> str:
    """Returns a form without the parts that only ScopeViT has."""
    own = ('plain', 'deployed', 'checkpointed')
    return '+'.join(part for part in form.split('+') if part not in own) or 'eager'


def in_process(function: Callable, *args: object) -> object:
    """Calls a function in a new process, whose allocator no other measurement has been at."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        return pool.submit(function, *args).result()


def profile_case(name: str, arch: str, device: str) -> dict[str, dict[str, float]]:
    """Returns what `profile_operators` says of a case, by form."""
    mode, size, batch_size = parse_case(name)
    images = noise_images((3, *size), batch_size)
    return {
        form: profile_operators(Pass(make_backbone(form, arch), form, mode, images, device), device)
        for form in ('plain', 'eager', 'deployed')
    }


def profile_operators(run: Callable[[], object], device: str) -> dict[str, float]:
    """Returns the seconds that a run spends in each group of operators."""
    run()
    activities = [ProfilerActivity.CPU]
    if device == 'cuda':
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as prof:
        run()
    seconds = dict.fromkeys((*OPERATOR_GROUPS, 'other'), 0.0)
    for event in prof.key_averages():
        if event.device_type != DeviceType.CPU:
            continue  # a kernel, whose time the operator that started it has as well
        own = event.self_cpu_time_total if device == 'cpu' else event.self_device_time_total
        groups = OPERATOR_GROUPS.items()
        group = next((g for g, parts in groups if any(p in event.key for p in parts)), 'other')
        seconds[group] += own / 1e6
    return seconds


def growth(cases: Sequence[Case]) -> list[dict]:
    """Fits how time and memory of inference with one image grow with the pixels: x ~ pixels^e.

    Returns:
        'form', 'sizes' (how many), 'time' and 'memory' (exponents; that of memory is
        None where it is not known), of the forms that were measured at three sizes or more.
    """
    found: dict[str, list[Measurement]] = {}
    for case in cases:
        for m in case.measurements:
            if case.name.startswith(INFERENCE) and m.shape[0] == 1 and m.seconds:
                found.setdefault(m.form, []).append(m)
    rows = []
    for form, measurements in found.items():
        if len(measurements) < 3:
            continue
        pixels = [math.prod(m.shape[2:]) for m in measurements]
        peaks = [m.peak_bytes for m in measurements]
        rows.append({
            'form': form,
            'sizes': len(measurements),
            'time': exponent(pixels, [m.median for m in measurements]),
            'memory': None if None in peaks else exponent(pixels, peaks),
        })  # fmt: skip
    return rows


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Returns the exponent of the power law that fits best."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


# Reporting ----------------------------------------------------------------------------------------

PAGE_BEGIN, PAGE_END = '<!-- measured -->\n', '<!-- end of measured -->'


def case_table(case: Case) -> str:
    """Returns the table of a case of the backbone, a line for each form that was measured."""
    base = case.find('plain')
    rows = []
    for m in case.measurements:
        if m.seconds:
            peak = '' if m.peak_bytes is None else number(m.peak_bytes / 1e6)
            rate = m.operations / m.median
            rows.append([
                m.form,
                number(1e3 * m.median),
                spread(m.speedup(base)) if base else '',
                peak,
                number(base.peak_bytes / m.peak_bytes) if base and peak else '',
                number(rate / 1e9),
                '' if 'bf16' in m.form else f'{100 * rate / case.product_rate:.0f}',
            ])  # fmt: skip
    columns = ['form', 'ms', 'times as fast as plain', 'memory (MB)', 'plain needs, times as much',
               'GFLOP/s', '% of product']  # fmt: skip
    limits = (
        f'In the same rounds a product of matrices reached {case.product_rate / 1e9:.0f} GFLOP/s '
        f'and a copy {case.copy_rate / 1e9:.1f} GB/s.'
    )
    return f'{markdown_table(columns, rows)}\n{limits}\n'


def peers_table(case: Case) -> str:
    """Returns the table of the classifiers, the fastest first."""
    by_network: dict[str, list[Measurement]] = {}
    for m in case.measurements:
        if m.seconds:
            by_network.setdefault(m.network, []).append(m)
    rows = []
    for network, measurements in by_network.items():
        eager = next((m for m in measurements if m.form == 'eager'), None)
        best = min(measurements, key=lambda m: m.median)
        images, _, height, width = best.shape
        rows.append((best.median, [
            network,
            f'{height}×{width}',
            number(best.operations / images / 2e9),
            number(images / eager.median) if eager else '',
            spread([images / s for s in reversed(quartiles(best.seconds))]),
            best.form,
        ]))  # fmt: skip
    columns = ['network', 'input', 'multiply-adds (G)', 'eager, images/s', 'fastest, images/s',
               'which']  # fmt: skip
    return markdown_table(columns, [cells for _, cells in sorted(rows)], align='lrrrrl')


def make_report(
    cases: Sequence[Case], profiles: dict[str, dict[str, float]], machine: dict[str, str]
) -> str:
    """Returns the tables in Markdown."""
    parts = []
    for case in cases:
        title = f'Peers, batches of {PEER_BATCH_SIZE}' if case.name == PEERS else case.name
        table = peers_table(case) if case.name == PEERS else case_table(case)
        parts += [f'## {title}\n', table]
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
    for title, columns in profiles.items():
        rows = [
            [group, *(number(1e3 * seconds[group]) for seconds in columns.values())]
            for group in (*OPERATOR_GROUPS, 'other')
        ]
        parts += [f'## Where the time goes, {title}\n']
        parts += [markdown_table(['operators', *(f'{form} (ms)' for form in columns)], rows)]
    failed = [
        f'- {case.name}, {m.network}, {m.form}: {m.failed}\n' for case in cases for m in case.failed
    ]
    if failed:
        parts += ['## Not measured\n', ''.join(failed)]
    parts += ['## Machine\n', markdown_table(['what', 'which'], list(machine.items()), align='ll')]
    return '\n'.join(parts)


def number(value: float) -> str:
    """Returns three significant digits."""
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f'{value:.{digits}f}'


def spread(values: Sequence[float]) -> str:
    """Returns a median with its quartiles."""
    low, median, high = values
    return f'{number(median)} ({number(low)}–{number(high)})'


def run_backbone_speed(
    cases: Sequence[str],
    forms: Sequence[str] = (),
    arch: str = 'tiny',
    device: str = 'cpu',
    with_profile: bool = False,
    published: str = 'tools/benchmark/published.yml',
    out: str = 'work_dirs/backbone_speed',
    page: str | None = None,
) -> str:
    """Measures cases and writes the tables and all numbers.

    Args:
        cases: Names: 'peers', or as `parse_case` reads them.
        forms: Forms for every case; by default those of `default_forms`.
        arch: Size of the backbone; the peers' case takes that of the published table.
        device: 'cpu' or 'cuda'.
        with_profile: Whether to add tables of the operators of `PROFILED_CASES`.
        published: File of published results, whose configs are the peers.
        out: Folder for `backbone_speed.md` and `.json`, written after each case.
        page: Markdown file whose tables to replace in the end, see `update_page`; the
            numbers go beside it, with the ending .json.

    Returns:
        The tables in Markdown.

    Raises:
        InputError: If something given is wrong, before anything is measured; or afterwards, if some
            of the forms could not be measured: the files of `out` have the others and why.
    """
    check_device(device)
    try:
        resolve_arch(arch)
    except ValueError as error:
        raise InputError(f'--arch: {error}') from error
    for name in cases:
        mode = INFERENCE if name == PEERS else parse_case(name)[0]
        for form in forms or default_forms(name):
            check_form(form, mode)
    if PEERS in cases:
        read_published(published)
    if with_profile and not set(cases) & set(PROFILED_CASES):
        raise InputError(f'--profile needs one of the cases {", ".join(PROFILED_CASES)}')
    if page:
        update_page(page, None)
    make_folder(out)
    machine = describe_machine(device)
    begin, done, profiles = time.perf_counter(), [], {}
    for name in cases:
        own = tuple(forms) or default_forms(name)
        if name == PEERS:
            done.append(in_process(peers_case, own, published, device))
        else:
            done.append(in_process(backbone_case, name, own, arch, device))
        if with_profile and name in PROFILED_CASES:
            profiles[name] = in_process(profile_case, name, arch, device)
        # After every case: what was measured stays when the run is stopped.
        report = make_report(done, profiles, machine)
        content = {
            'machine': machine,
            'arch': arch,
            'seconds': time.perf_counter() - begin,
            'cases': [describe_case(case) for case in done],
            'growth': growth(done),
            'profiles': profiles,
        }
        write_text(Path(out) / 'backbone_speed.md', report)
        write_json(Path(out) / 'backbone_speed.json', content)
    failed = [f'{case.name} {m.network} {m.form}' for case in done for m in case.failed]
    if failed:
        print(report)
        raise InputError(f'not measured: {", ".join(failed)}; the reasons are in {out}')
    if page:
        update_page(page, report)
        write_json(Path(page).with_suffix('.json'), content)
    return report


def describe_case(case: Case) -> dict:
    """Returns a case with its figures, in types that JSON has."""
    base = case.find('plain')
    described = dataclasses.asdict(case)
    for m, values in zip(case.measurements, described['measurements']):
        if m.seconds:
            values['median_seconds'] = m.median
            values['times_as_fast_as_plain'] = m.speedup(base) if base else None
    return described


def update_page(path: str, tables: str | None) -> None:
    """Puts tables between two lines, `PAGE_BEGIN` and `PAGE_END`, of a page.

    Args:
        path: Page.
        tables: Tables; None to see only whether the page has the two lines.

    Raises:
        InputError: If there is no such page, or it has no place for the tables.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
    except OSError as error:
        raise InputError(f'--page: cannot read {path}: {error.strerror}') from error
    before, _, rest = text.partition(PAGE_BEGIN)
    _, end, after = rest.partition(PAGE_END)
    if not end:
        raise InputError(f'--page: {path} has no lines {PAGE_BEGIN.strip()} and {PAGE_END}')
    if tables is not None:
        write_text(path, f'{before}{PAGE_BEGIN}\n{tables}\n{end}{after}')
