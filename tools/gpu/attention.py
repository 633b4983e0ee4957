"""Attention on a device: its gradients, which kernel each layer gets, what a new shape costs."""

import contextlib
import itertools
import math
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from findings import Findings
from parity import HALVES, computing_in, worst
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from scopevit import ScopeViT
from scopevit.benchmark.attention_kernels import attention_kernels, join_blocks
from scopevit.benchmark.backbone_speed import in_process
from scopevit.benchmark.forms import make_backbone
from scopevit.benchmark.timing import synchronize, timed, visit
from scopevit.errors import error_text
from scopevit.models.cpu import biased_attention
from scopevit.report import number

# Slots of GSDA's groups: 7x7, as of maps of 28, 7x8, 7x9 and 8x8.
GROUP_SLOTS = (49, 56, 63, 64)
HEADS, CHANNELS = 4, 16
# The most that a gradient may differ from float64's, over its largest magnitude.
TOLERANCES = {'float32': 1e-4, 'bfloat16': 0.05, 'float16': 0.01}
# What is special about a problem: slots that are not there, as in groups that are filled up; logits
# for which cuDNN's attention gave NaN as gradients on Hopper, where there were 64 slots (pytorch
# issue 196678). torch takes it only where the bias needs no gradient.
MASKED, LOW, FROZEN = 'masked', 'below -88', 'below -88, bias frozen'
OURS, TORCHS = "the backbone's", "torch's choice"
KERNELS = {
    OURS: None,
    TORCHS: None,
    'math': SDPBackend.MATH,
    'memory-efficient': SDPBackend.EFFICIENT_ATTENTION,
    'flash': SDPBackend.FLASH_ATTENTION,
    'cuDNN': SDPBackend.CUDNN_ATTENTION,
}


def precisions(device: str) -> list[str]:
    """Returns the types to look at; float16 is slow on a CPU."""
    return ['float32', *HALVES] if device == 'cuda' else ['float32', 'bfloat16']


# Gradients ----------------------------------------------------------------------------------------


def gradients(
    attention: Callable[..., Tensor], dtype: torch.dtype, slots: int, logits: str, device: str
) -> list[Tensor]:
    """Returns the gradients of queries, keys, values and bias, the same problem every time."""
    generator = torch.Generator().manual_seed(slots)
    groups = 64 if device == 'cuda' else 4
    q, k, v, weight = torch.randn(4, groups, HEADS, slots, CHANNELS, generator=generator)
    bias = torch.randn(1, HEADS, slots, slots, generator=generator)
    # One channel shifts all logits alike, which changes no output.
    q[..., 0], k[..., 0] = 1.0, -120.0 * CHANNELS**0.5 if logits in (LOW, FROZEN) else 0.0
    inputs = [x.to(device, dtype).requires_grad_() for x in (q, k, v, bias)]
    q, k, v, bias = inputs
    if logits == FROZEN:
        bias = inputs.pop().requires_grad_(False)
    if logits == MASKED:
        bias = bias.masked_fill(torch.arange(slots, device=device) % 8 == 7, float('-inf'))
    (attention(q, k, v, bias) * weight.to(device, dtype)).sum().backward()
    # That of the one channel's queries is a sum of large numbers that is 0.
    return [x.grad.double()[..., 1:] for x in inputs]


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention as two products and a softmax."""
    logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias
    return logits.softmax(dim=-1) @ v


def gradient_error(
    kernel: str, precision: str, slots: int, logits: str, device: str, exact: list[Tensor]
) -> float:
    """Returns the largest error of a gradient over its largest magnitude; NaN where one is none.

    Raises:
        RuntimeError: If the kernel does not take such a problem.
    """
    attention = biased_attention if kernel == OURS else F.scaled_dot_product_attention
    backend = KERNELS[kernel]
    with sdpa_kernel(backend) if backend else contextlib.nullcontext():
        found = gradients(attention, getattr(torch, precision), slots, logits, device)
    return worst([((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, exact)])


def check_gradients(device: str, findings: Findings) -> None:
    """Compares the gradients of attention with a bias, by kernel, and those of the network."""
    rows = []
    for slots, logits in itertools.product(GROUP_SLOTS, ('', MASKED, LOW, FROZEN)):
        exact = gradients(explicit_attention, torch.float64, slots, logits, device)
        for precision in precisions(device):
            cells = []
            for kernel in KERNELS:
                what = ', '.join(filter(None, (precision, f'{slots} slots', logits, kernel)))
                try:
                    with computing_in('float32', device):  # without TF32
                        error = gradient_error(kernel, precision, slots, logits, device, exact)
                except RuntimeError as failure:
                    cells.append(without_kernel(what, kernel, failure, findings))
                    continue
                cells.append(f'{error:.0e}')
                # A kernel may keep its logits in halves, which have no digits left there.
                limit = math.inf if logits in (LOW, FROZEN) else TOLERANCES[precision]
                if not error < limit:
                    # Of what the backbone does not do by itself, it is worth a line.
                    is_ours = kernel == OURS and logits != FROZEN
                    tell = findings.problem if is_ours else findings.note
                    tell(f'{what}: off by {error:.1e}, where {limit:g} is allowed')
            rows.append([precision, str(slots), logits, *cells])
        columns = ['type', 'slots', 'logits', *KERNELS]
        title = 'Largest error of the gradients of attention with a bias, by kernel'
        findings.table(title, columns, rows)
    check_network_gradients(device, findings)


def without_kernel(what: str, kernel: str, failure: RuntimeError, findings: Findings) -> str:
    """Returns the cell of a kernel that does not run, and keeps why, unless it has no such code."""
    if kernel == OURS:
        findings.problem(f'{what}: {error_text(failure)}')
    elif 'No available kernel' not in str(failure):
        findings.note(f'{what}: {error_text(failure)}')
    return 'none'


def check_network_gradients(device: str, findings: Findings) -> None:
    """Looks for numbers in the gradients of the network, in mixed precision, at several sizes."""
    columns = ['size', *precisions(device)]
    rows = []
    sizes = ((224, 224), (256, 256), (200, 336)) if device == 'cuda' else ((64, 64),)
    for size in sizes:
        cells = []
        for name in precisions(device):
            torch.manual_seed(0)
            model = ScopeViT('tiny', layer_scale_init_value=0.5).to(device)
            with computing_in(name, device):
                outs = model(torch.randn(2, 3, *size, device=device))
            sum(out.float().square().mean() for out in outs).backward()
            bad = [n for n, p in model.named_parameters() if not p.grad.isfinite().all()]
            cells.append(f'{len(bad)} not finite' if bad else 'finite')
            if bad:
                findings.problem(f'{name} at {size[0]}x{size[1]}: no finite gradient of {bad[0]}')
        rows.append(['×'.join(map(str, size)), *cells])
    findings.table('Gradients of the network (tiny, autocast)', columns, rows)


# Kernels ------------------------------------------------------------------------------------------


def check_kernels(device: str, findings: Findings) -> None:
    """Tells which attention kernel each layer gets, by type, in inference and in training."""
    arch, size = ('tiny', 256) if device == 'cuda' else ('xtiny', 64)
    images = torch.randn(2, 3, size, size, device=device)
    model = make_backbone('eager', arch).to(device)
    columns, kernels = [], {}
    for training in (False, True):
        model.train(training)
        for precision in precisions(device):

            def run(training: bool = training, precision: str = precision) -> None:
                with torch.set_grad_enabled(training), computing_in(precision, device):
                    outs = model(images)
                if training:
                    sum(out.float().square().mean() for out in outs).backward()

            columns.append(f'{"training" if training else "inference"}, {precision}')
            for call in join_blocks(attention_kernels(model, run)):
                names = kernels.setdefault(call.layer, {})
                names.setdefault(columns[-1], set()).add(call.kernel)
    rows = [
        [layer, *(' and '.join(sorted(names.get(column, ()))) for column in columns)]
        for layer, names in kernels.items()
    ]
    title = f'Kernels ({arch}, 2 images of {size}×{size})'
    findings.table(title, ['layer', *columns], rows, 'l' * (len(columns) + 1))
    for column in columns:
        slow = [layer for layer, names in kernels.items() if 'math' in names.get(column, ())]
        if slow and device == 'cuda':
            findings.problem(f'{column}: no fused kernel in {", ".join(slow)}')
    check_kernel_speed(device, findings)


def check_kernel_speed(device: str, findings: Findings) -> None:
    """Times the kernels on the attention of stage 1, forward and backward, 64 images of 256²."""
    images = 64 if device == 'cuda' else 1
    problems = {
        'MSSA': ((images, 2, 4096, CHANNELS), (images, 2, 289, CHANNELS), False),
        'GSDA': ((64 * images, 2, 64, CHANNELS), (64 * images, 2, 64, CHANNELS), True),
    }
    rows = []
    for name, (queries, keys, has_bias) in problems.items():
        for precision in precisions(device):
            dtype = getattr(torch, precision)
            q, k = (torch.randn(shape, device=device, dtype=dtype) for shape in (queries, keys))
            bias = torch.randn(1, 2, 64, 64, device=device, dtype=dtype) if has_bias else None
            inputs = [x.requires_grad_() for x in (q, k, k.clone(), bias) if x is not None]
            cells = []
            for kernel in KERNELS:
                if kernel == OURS and not has_bias:
                    cells.append('')
                    continue
                try:
                    cells.append(number(1e3 * attention_seconds(kernel, inputs, device)))
                except RuntimeError as failure:
                    what = f'{name}, {precision}, {kernel}'
                    cells.append(without_kernel(what, kernel, failure, findings))
            rows.append([name, precision, *cells])
    title = f'Attention of stage 1, forward and backward, {images} images of 256×256 (ms)'
    findings.table(title, ['attention', 'type', *KERNELS], rows)


def attention_seconds(kernel: str, inputs: list[Tensor], device: str) -> float:
    """Returns the median time of an attention, (q, k, v) or with a bias, and of its gradients."""
    attention = biased_attention if kernel == OURS else F.scaled_dot_product_attention
    weight = torch.ones_like(inputs[0])

    def step() -> None:
        torch.autograd.grad(attention(*inputs), inputs, weight)
        synchronize(device)

    backend = KERNELS[kernel]
    with sdpa_kernel(backend) if backend else contextlib.nullcontext():
        step()
        return statistics.median(visit(step, at_least=0.1, trusted=0.1))


# Shapes -------------------------------------------------------------------------------------------

# Height and width of a multi-scale training of detection, and small ones.
SHAPES = {
    'cuda': [
        (480, 800),
        (512, 864),
        (544, 896),
        (608, 1024),
        (672, 1120),
        (736, 1216),
        (800, 1344),
    ],
    'cpu': [(64, 96), (96, 96), (96, 128)],
}
PASSES = 3  # at each shape after its first


def shape_seconds(precision: str, with_cudnn: bool, device: str) -> list[tuple[float, float]]:
    """Returns the seconds of the first training step at each shape, and of a later one."""
    if device == 'cuda':
        torch.backends.cuda.enable_cudnn_sdp(with_cudnn)
    torch.manual_seed(0)
    model = ScopeViT('tiny').to(device).train()

    dtype = HALVES.get(precision)

    def step(images: Tensor) -> None:
        with torch.autocast(device, dtype, enabled=dtype is not None):
            outs = model(images)
        sum(out.float().square().mean() for out in outs).backward()
        synchronize(device)

    def timed_step(images: Tensor) -> float:
        return timed(lambda: step(images))

    # What starts up with the first kernel is none of a shape's.
    timed_step(torch.randn(2, 3, 64, 64, device=device))
    seconds = []
    for shape in SHAPES[device]:
        images = torch.randn(2, 3, *shape, device=device)
        first = timed_step(images)
        seconds.append((first, min(timed_step(images) for _ in range(PASSES))))
    return seconds


def check_shapes(device: str, findings: Findings) -> None:
    """Measures what the first training step at a new shape costs.

    cuDNN's attention plans every shape anew. Each column is a process of its own, which has planned
    none yet.
    """
    half = 'float16' if device == 'cuda' else 'bfloat16'
    choices = [('float32', True), (half, True)]
    choices += [(half, False)] if device == 'cuda' else []
    measured = {}
    for precision, with_cudnn in choices:
        name = f'{precision}{"" if with_cudnn else ", cuDNN attention off"}'
        measured[name] = in_process(shape_seconds, precision, with_cudnn, device)
        columns = ['shape', *(f'{name}: first, then (ms)' for name in measured)]
        rows = [
            [
                '×'.join(map(str, shape)),
                *(' '.join(number(1e3 * s) for s in pair) for pair in pairs),
            ]
            for shape, *pairs in zip(SHAPES[device], *measured.values())
        ]
        findings.table('First training step at a shape, and a later one (tiny, 2 images)', columns,
                       rows)  # fmt: skip
    extra = {
        name: statistics.mean(first - later for first, later in pairs)
        for name, pairs in measured.items()
    }
    findings.figures['seconds of a new shape'] = extra
    findings.note(
        'a new shape costs on average '
        + ', '.join(f'{number(1e3 * seconds)} ms in {name}' for name, seconds in extra.items())
    )
    off = 'float16, cuDNN attention off'
    if off in extra and extra['float16'] > extra[off] + 1:
        findings.problem(
            'cuDNN attention takes more than a second to plan each new shape in half precision: '
            'torch.backends.cuda.enable_cudnn_sdp(False) for training at several scales'
        )
