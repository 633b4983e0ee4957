"""Time and memory of the backbone in its forms, against a plain implementation and its peers.

A case is a mode, an image size and a batch size, or the peers' classifiers. Everything that a case
compares is built first, in a process of its own, and then timed in turn, together with a matrix
product and a copy that show what the machine can do at the time.
"""

import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from scopevit.benchmark.backbone_table import (
    PEER_BATCH_SIZE,
    PEERS,
    Case,
    Measurement,
    growth,
    make_report,
)
from scopevit.benchmark.complexity import count_complexity
from scopevit.benchmark.forms import (
    INFERENCE,
    TRAINING,
    check_form,
    make_backbone,
    make_classifier,
    make_pass,
)
from scopevit.benchmark.machine import check_device, describe_machine
from scopevit.benchmark.memory import peak_memory
from scopevit.benchmark.networks import Network, from_config
from scopevit.benchmark.pages import log, make_folder
from scopevit.benchmark.published import read_published
from scopevit.benchmark.timing import Pass, synchronize, take_turns, visit
from scopevit.errors import InputError, error_text
from scopevit.files import write_json, write_text
from scopevit.models.checks import MIN_IMAGE_SIZE
from scopevit.models.sizes import resolve_arch
from scopevit.report import replace_between

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

Candidate = tuple[Measurement, Callable[[], Pass], Tensor]  # what builds the pass, and its images


def measure(name: str, candidates: Sequence[Candidate], device: str) -> Case:
    """Builds the candidates of a case and times them in turn.

    What does not run is kept with the reason, and the others go on.
    """
    case = Case(name, [measurement for measurement, _, _ in candidates], 0.0, 0.0)
    rates: list[tuple[float, float]] = []

    def failed(index: int, error: Exception) -> None:
        if index == len(candidates):
            raise error  # of the yardsticks
        case.measurements[index].seconds.clear()
        case.measurements[index].failed = error_text(error)

    turns = [*(time_pass(*candidate) for candidate in candidates), time_yardsticks(rates, device)]
    take_turns(name, turns, failed, rounds=MIN_ROUNDS)
    case.product_rate, case.copy_rate = map(statistics.median, zip(*rates))
    return case


def time_pass(m: Measurement, make: Callable[[], Pass], images: Tensor) -> Iterator[None]:
    """Builds a pass and measures its memory; then adds to its times at each turn."""
    log(f'preparing {m.network}, {m.form}')
    run = make()
    images = run.place(images)
    compiled = 'compiled' in m.form.split('+')
    # For inference, weights become constants, which oneDNN gets in the layout that it wants.
    with torch._inductor.config.patch(freezing=True):
        if compiled:
            run.compile([images])
        else:
            run(images)
    if run.device == 'cuda' or not compiled:  # a compiler hides what it allocates on a CPU
        run.module.zero_grad(set_to_none=True)
        m.peak_bytes = peak_memory(partial(run, images, torch.no_grad), run.device)
    while True:
        yield
        m.seconds.append(median_time(partial(run, images)))


def time_yardsticks(rates: list[tuple[float, float]], device: str) -> Iterator[None]:
    """Adds at each turn what the machine can do: operations and bytes a second.

    They are those of a product of large matrices and of a large copy.
    """
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

    while True:
        yield
        seconds = median_time(product), median_time(copy)
        rates.append((2.0 * side**3 / seconds[0], 2.0 * source.nbytes / seconds[1]))


def median_time(run: Callable[[], object]) -> float:
    """Returns the median of the times of a visit."""
    return statistics.median(visit(run, VISIT_SECONDS, trusted=10 * VISIT_SECONDS))


def eager_network(arch: str, size: tuple[int, int]) -> Network:
    """Returns the backbone for images of (height, width)."""
    eager = make_backbone('eager', arch)
    return Network('ScopeViT', arch, 'classification', 'ScopeViT', (3, *size), eager)


def backbone_case(name: str, forms: Sequence[str], arch: str, device: str) -> Case:
    """Measures the backbone in forms."""
    mode, size, batch_size = parse_case(name)
    network = eager_network(arch, size)
    images = network.make_input(batch_size)
    operations = OPERATIONS[mode] * batch_size * count_complexity(network)[0].multiply_adds
    candidates = [
        (
            Measurement('ScopeViT', form, tuple(images.shape), operations),
            lambda form=form: make_pass(make_backbone(form, arch), form, mode, device),
            images,
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
        if entry.recipe is None:
            continue
        network = from_config(entry.recipe)
        images = network.make_input(PEER_BATCH_SIZE)
        operations = 2 * PEER_BATCH_SIZE * count_complexity(network)[0].multiply_adds
        is_ours = network.backbone == 'ScopeViT'
        for form in forms if is_ours else dict.fromkeys(map(form_of_any, forms)):
            candidates.append((
                Measurement(entry.system, form, tuple(images.shape), operations),
                lambda form=form, module=network.module: make_pass(
                    make_classifier(form, module), form, INFERENCE, device
                ),
                images,
            ))  # fmt: skip
    return measure(PEERS, candidates, device)


def form_of_any(form: str) -> str:
    """Returns a form without the parts that only ScopeViT has."""
    own = ('plain', 'deployed', 'checkpointed')
    return '+'.join(part for part in form.split('+') if part not in own) or 'eager'


def in_process(function: Callable, *args: object) -> Any:
    """Calls a function in a new process, whose allocator no other measurement has been at."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        return pool.submit(function, *args).result()


def profile_case(name: str, arch: str, device: str) -> dict[str, dict[str, float]]:
    """Returns what `profile_operators` says of a case, by form."""
    mode, size, batch_size = parse_case(name)
    images = eager_network(arch, size).make_input(batch_size)
    profiles = {}
    for form in ('plain', 'eager', 'deployed'):
        run = make_pass(make_backbone(form, arch), form, mode, device)
        profiles[form] = profile_operators(partial(run, run.place(images)), device)
    return profiles


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


# The tool -----------------------------------------------------------------------------------------

PAGE_BEGIN, PAGE_END = '<!-- measured -->\n', '<!-- end of measured -->'


def run_backbone_speed(
    cases: Sequence[str],
    forms: Sequence[str],
    arch: str,
    device: str,
    with_profile: bool,
    published: str,
    out: str,
    page: str | None,
) -> str:
    """Measures cases, writes the tables and all numbers, and returns the tables in Markdown.

    The arguments are those of `tools/benchmark/backbone_speed.py`, whose help says what they are.
    The folder gets `backbone_speed.md` and `.json`, written after each case; the page gets the
    tables in the end, and beside it a file of the numbers, with the ending .json. The peers' case
    takes the size of the backbone in the published table.

    Raises:
        InputError: If something given is wrong, before anything is measured; or afterwards, if some
            of the forms could not be measured: the files of `out` have the others and why.
    """
    check_device(device)
    check_cases(cases, forms, arch, with_profile, published)
    if page:
        page_with(page, '')
    folder, machine = make_folder(out), describe_machine(device)
    begin, profiles = time.perf_counter(), {}
    done: list[Case] = []
    for name in cases:
        own = forms or default_forms(name)
        what = (peers_case, own, published) if name == PEERS else (backbone_case, name, own, arch)
        done.append(in_process(*what, device))
        if with_profile and name in PROFILED_CASES:
            profiles[name] = in_process(profile_case, name, arch, device)
        content = {
            'machine': machine,
            'arch': arch,
            'seconds': time.perf_counter() - begin,
            'cases': [case.describe() for case in done],
            'growth': growth(done),
            'profiles': profiles,
        }
        # After every case: what was measured stays when the run is stopped.
        report = make_report(done, profiles, machine)
        write_text(folder / 'backbone_speed.md', report)
        write_json(folder / 'backbone_speed.json', content)
    failed = [f'{case.name} {m.network} {m.form}' for case in done for m in case.failed]
    if failed:
        print(report)
        raise InputError(f'not measured: {", ".join(failed)}; the reasons are in {out}')
    if page:
        write_text(page, page_with(page, report))
        write_json(Path(page).with_suffix('.json'), content)
    return report


def check_cases(
    cases: Sequence[str], forms: Sequence[str], arch: str, with_profile: bool, published: str
) -> None:
    """Raises an InputError if something is wrong with the arguments of `run_backbone_speed`."""
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


def page_with(path: str, tables: str) -> str:
    """Returns a page with tables between its lines `PAGE_BEGIN` and `PAGE_END`.

    Raises:
        InputError: If there is no such page, or it has no place for the tables.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
    except OSError as error:
        raise InputError(f'--page: cannot read {path}: {error.strerror}') from error
    return replace_between(text, PAGE_BEGIN, PAGE_END, f'\n{tables}\n', f'--page: {path}')
