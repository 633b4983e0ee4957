"""Time and memory of the backbone in its forms, against a plain implementation and its peers.

A case is a mode, an image size and a batch size, or the peers' classifiers. Everything that a case
compares is built first, in a process of its own, and then timed in turn, together with a matrix
product and a copy that show what the machine can do at the time.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from scopevit.benchmark.attention_kernels import attention_kernels, join_blocks
from scopevit.benchmark.backbone_cases import (
    DEFAULT_CASES,
    PEER_BATCH_SIZES,
    default_forms,
    parse_case,
)
from scopevit.benchmark.backbone_table import PEERS, Case, Measurement, growth, make_report
from scopevit.benchmark.complexity import count_complexity
from scopevit.benchmark.forms import (
    INFERENCE,
    TRAINING,
    check_form,
    make_backbone,
    make_classifier,
    make_pass,
    precision,
)
from scopevit.benchmark.machine import check_device, describe_machine
from scopevit.benchmark.memory import peak_memory
from scopevit.benchmark.networks import Network, from_config
from scopevit.benchmark.pages import log, make_folder, page_with
from scopevit.benchmark.published import read_published
from scopevit.benchmark.timing import Pass, gpu_seconds, median_time, take_turns
from scopevit.benchmark.yardsticks import Yardsticks
from scopevit.errors import InputError, error_text
from scopevit.files import write_json, write_text
from scopevit.models.scopevit import ScopeViT
from scopevit.models.sizes import resolve_arch

PROFILED_CASES = ('inference-256x256-b8', 'inference-1024x1024-b1')
# A backward pass counts as two forward passes.
OPERATIONS = {INFERENCE: 2, TRAINING: 6}  # for each multiply-add of the forward pass

MIN_ROUNDS = 5

# Groups of operators by parts of their names; the first that fits counts. Linear layers of the
# backbone are convolutions on a CPU.
OPERATOR_GROUPS = {
    'attention': ('attention', 'softmax', 'bmm', 'masked_fill'),
    'convolutions and linear layers': ('conv', 'addmm', 'aten::mm', 'linear'),
    'norms': ('norm',),
    'activations': ('gelu', 'relu', 'clamp', 'threshold'),
    'copies': ('copy', 'clone', 'aten::cat', 'pad', 'index', 'fill', 'zero'),
}


# Measuring ----------------------------------------------------------------------------------------

Candidate = tuple[Measurement, Callable[[], Pass], Tensor]  # what builds the pass, and its images


def measure(name: str, candidates: Sequence[Candidate], device: str) -> Case:
    """Builds the candidates of a case and times them in turn.

    What does not run is kept with the reason, and the others go on.
    """
    case = Case(name, [measurement for measurement, _, _ in candidates])
    precisions = dict.fromkeys(['float32', *(precision(m.form) for m in case.measurements)])
    yardsticks = Yardsticks(list(precisions), device)

    def failed(index: int, error: Exception) -> None:
        if index == len(candidates):
            raise error  # of the yardsticks
        case.measurements[index].seconds.clear()
        case.measurements[index].gpu_seconds.clear()
        case.measurements[index].failed = error_text(error)

    turns = [*(time_pass(*candidate) for candidate in candidates), yardsticks.take_turns()]
    take_turns(name, turns, failed, rounds=MIN_ROUNDS)
    case.product_rates, case.copy_rate = yardsticks.product_rates, yardsticks.copy_rate
    return case


def time_pass(m: Measurement, make: Callable[[], Pass], images: Tensor) -> Iterator[None]:
    """Builds a pass and measures its memory; then adds to its times at each turn."""
    log(f'preparing {m.network}, {m.form}')
    run = make()
    images = run.place(images)
    compiled = 'compiled' in m.form.split('+')
    if compiled:
        # For inference, weights become constants: oneDNN gets them in the layout that it wants, and
        # what is made of them alone (GSDA's bias, the casts of autocast) is no part of a pass.
        with torch._inductor.config.patch(freezing=not run.training):
            run.compile([images])
    else:
        run(images)
    if run.device == 'cuda' or not compiled:  # a compiler hides what it allocates on a CPU
        run.module.zero_grad(set_to_none=True)
        # A GPU's allocator is asked, not the operators; another guard would compile once more.
        guard = torch.inference_mode if run.device == 'cuda' else torch.no_grad
        m.peak_bytes = peak_memory(partial(run, images, guard), run.device)
    if isinstance(run.module, ScopeViT) and not compiled:
        calls = attention_kernels(run.module, partial(run, images, torch.no_grad))
        m.attention = join_blocks(calls)
    while True:
        yield
        m.seconds.append(median_time(partial(run, images)))
        if run.device == 'cuda':
            m.gpu_seconds.append(gpu_seconds(partial(run.launch, images), m.seconds[-1]))


def eager_network(arch: str, size: tuple[int, int]) -> Network:
    """Returns the backbone for images of (height, width)."""
    eager = make_backbone('eager', arch)
    return Network('ScopeViT', arch, 'classification', 'ScopeViT', (3, *size), eager)


def backbone_case(name: str, forms: Sequence[str], arch: str, device: str) -> Case:
    """Measures the backbone in forms."""
    mode, size, batch_size = parse_case(name)
    network = eager_network(arch, size)
    try:
        images = network.make_input(batch_size)
    except RuntimeError as error:
        raise InputError(f'--cases: {name}: no memory for such images') from error
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
    candidates, batch_size = [], PEER_BATCH_SIZES[device]
    for entry in read_published(published):
        if entry.recipe is None:
            continue
        network = from_config(entry.recipe)
        images = network.make_input(batch_size)
        operations = 2 * batch_size * count_complexity(network)[0].multiply_adds
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
    """Calls a function in a new process, whose allocator no other measurement has been at.

    Raises:
        InputError: If that process is killed; the message names the first of the arguments.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        try:
            return pool.submit(function, *args).result()
        except BrokenProcessPool as error:
            raise InputError(
                f'the process of {args[0]} was killed, as it is where memory runs out'
            ) from error


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
    cases = cases or list(DEFAULT_CASES[device])
    check_cases(cases, forms, arch, device, with_profile, published)
    if page:
        page_with(page, PAGE_BEGIN, PAGE_END, '')
    folder, machine = make_folder(out), describe_machine(device)
    begin, profiles = time.perf_counter(), {}
    done: list[Case] = []
    for name in cases:
        own = forms or default_forms(name, device)
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
        write_text(page, page_with(page, PAGE_BEGIN, PAGE_END, report))
        write_json(Path(page).with_suffix('.json'), content)
    return report


def check_cases(
    cases: Sequence[str],
    forms: Sequence[str],
    arch: str,
    device: str,
    with_profile: bool,
    published: str,
) -> None:
    """Raises an InputError if something is wrong with the arguments of `run_backbone_speed`."""
    try:
        resolve_arch(arch)
    except ValueError as error:
        raise InputError(f'--arch: {error}') from error
    for name in cases:
        mode = INFERENCE if name == PEERS else parse_case(name)[0]
        for form in forms or default_forms(name, device):
            check_form(form, mode)
    if PEERS in cases:
        read_published(published)
    if with_profile and not set(cases) & set(PROFILED_CASES):
        raise InputError(f'--profile needs one of the cases {", ".join(PROFILED_CASES)}')
