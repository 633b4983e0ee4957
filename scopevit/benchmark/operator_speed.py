"""Times operators of `mmcv.ops` against what a detector could call in their place, in turn."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scopevit.benchmark.machine import check_device, describe_machine
from scopevit.benchmark.pages import log, make_folder, make_page, page_with
from scopevit.benchmark.timing import median_time, quartiles, synchronize, take_turns
from scopevit.errors import InputError, error_text
from scopevit.files import write_json, write_text
from scopevit.report import markdown_table, number, size_text, spread

ROUNDS = 7
BEGIN, END = '<!-- operators measured -->', '<!-- end of operators -->'
PASSES = ('forward', 'forward and backward')

Operator = Callable[..., Tensor]


@dataclass
class Pair:
    """An operator of mmcv and a yardstick that compute alike, and their times.

    Attributes:
        name: What the table calls it.
        yardstick_name: Whose function the yardstick is.
        ours: The operator of `mmcv.ops`.
        yardstick: What it is held against.
        inputs: What both take; the first has the shape that the table tells.
        seconds: Of both by pass, one a round.
    """

    name: str
    yardstick_name: str
    ours: Operator
    yardstick: Operator
    inputs: tuple[Tensor, ...]
    seconds: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)


def deformable_convolution() -> Pair:
    """DCN of 256 channels on an image of 800×1088, stride 32."""
    from torchvision.ops import deform_conv2d

    ops: Any = importlib.import_module('mmcv.ops')
    inputs = (torch.randn(1, 256, 25, 34), torch.randn(1, 18, 25, 34), torch.randn(256, 256, 3, 3))
    return Pair(
        'deform_conv2d',
        'torchvision',
        lambda x, offset, weight: ops.deform_conv2d(x, offset, weight, 1, 1),
        lambda x, offset, weight: deform_conv2d(x, offset, weight, padding=1),
        inputs,
    )


def modulated_deformable_convolution() -> Pair:
    """DCNv2, of the same size."""
    from torchvision.ops import deform_conv2d

    ops: Any = importlib.import_module('mmcv.ops')
    x, offset, weight = deformable_convolution().inputs
    return Pair(
        'modulated_deform_conv2d',
        'torchvision',
        lambda x, offset, mask, weight, bias: ops.modulated_deform_conv2d(
            x, offset, mask, weight, bias, 1, 1
        ),
        lambda x, offset, mask, weight, bias: deform_conv2d(
            x, offset, weight, bias, padding=1, mask=mask
        ),
        (x, offset, torch.rand(1, 9, 25, 34), weight, torch.randn(256)),
    )


def regions() -> tuple[Tensor, Tensor]:
    """A map of stride 4 of an image of 800×1088, and 128 regions of 8 to 232 pixels on it."""
    corners = torch.rand(128, 2) * torch.tensor([856.0, 568.0])
    sizes = 8 + torch.rand(128, 2) * 224
    rois = torch.cat([torch.zeros(128, 1), corners, corners + sizes], dim=1)
    return torch.randn(1, 256, 200, 272), rois


def roi_align() -> Pair:
    """RoIAlign of a Mask R-CNN's box head."""
    from torchvision.ops import roi_align as of_torchvision

    ops: Any = importlib.import_module('mmcv.ops')
    return Pair(
        'roi_align',
        'torchvision',
        lambda x, rois: ops.roi_align(x, rois, (7, 7), 0.25, 0, 'avg', True),
        lambda x, rois: of_torchvision(x, rois, 7, 0.25, 0, True),
        regions(),
    )


def roi_pool() -> Pair:
    """RoIPool of the same regions, which torchvision rounds to whole pixels first."""
    from torchvision.ops import roi_pool as of_torchvision

    ops: Any = importlib.import_module('mmcv.ops')
    return Pair(
        'roi_pool',
        'torchvision',
        lambda x, rois: ops.roi_pool(x, rois, (7, 7), 0.25),
        lambda x, rois: of_torchvision(x, rois, 7, 0.25),
        regions(),
    )


def multi_scale_attention() -> Pair:
    """One layer of a deformable encoder on an image of 512², against mmcv's own code in torch."""
    ops: Any = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
    function = ops.MultiScaleDeformableAttnFunction
    shapes = torch.tensor([(64, 64), (32, 32), (16, 16), (8, 8)])
    areas = shapes.prod(dim=1)
    starts = torch.cat([areas.new_zeros(1), areas.cumsum(0)[:-1]])
    keys = int(areas.sum())
    points = torch.rand(2, keys, 8, 4, 4, 2)  # (N, queries, heads, levels, points, x and y)
    weights = torch.rand(2, keys, 8, 16).softmax(dim=-1).view(2, keys, 8, 4, 4)
    return Pair(
        'ms_deform_attn',
        'mmcv in torch',
        lambda value, points, weights: function.apply(
            value, shapes.to(value.device), starts.to(value.device), points, weights, 64
        ),
        lambda value, points, weights: ops.multi_scale_deformable_attn_pytorch(
            value, shapes, points, weights
        ),
        (torch.randn(2, keys, 8, 32), points, weights),
    )


PAIRS: dict[str, Callable[[], Pair]] = {
    'deform_conv2d': deformable_convolution,
    'modulated_deform_conv2d': modulated_deformable_convolution,
    'roi_align': roi_align,
    'roi_pool': roi_pool,
    'ms_deform_attn': multi_scale_attention,
}


def run_operator_speed(names: Sequence[str], device: str, out: str, page: str | None) -> str:
    """Measures operators; writes, and returns, the tables.

    Args:
        names: Some of `PAIRS`; none for all.
        device: 'cpu' or 'cuda'.
        out: Folder for `report.md` and `report.json`.
        page: Markdown file whose table to replace as well.

    Raises:
        InputError: If something given is wrong, before anything is measured.
    """
    unknown = [name for name in names if name not in PAIRS]
    if unknown:
        raise InputError(f'--operators {unknown[0]}: choose from {", ".join(PAIRS)}')
    check_device(device)
    if page is not None:
        page_with(page, BEGIN, END, '')
    folder = make_folder(out)
    pairs, failed = [], []
    for name in names or PAIRS:
        torch.manual_seed(0)
        pair = PAIRS[name]()
        pairs.append(pair)
        failed += [f'{name}, {line}' for line in measure(pair, device)]
    machine = describe_machine(device)
    report = make_page([operator_table(pairs)], failed, machine)
    write_text(folder / 'report.md', report)
    times = {pair.name: pair.seconds for pair in pairs}
    write_json(folder / 'report.json', {'machine': machine, 'seconds': times})
    if page is not None:
        write_text(Path(page), page_with(page, BEGIN, END, report))
    return report


def measure(pair: Pair, device: str) -> list[str]:
    """Times both operators of a pair in turn; returns what failed, a line each."""
    failures: list[str] = []
    for what in PASSES:
        times: tuple[list[float], list[float]] = ([], [])
        operators = (pair.ours, pair.yardstick)
        inputs = tuple(x.to(device).requires_grad_(what != PASSES[0]) for x in pair.inputs)

        def turns(run: Operator, seconds: list[float], given: Sequence[Tensor]) -> Iterator[None]:
            step = partial(run_once, run, given, device)
            step()
            while True:
                yield
                seconds.append(median_time(step))

        def failed(index: int, error: Exception, what: str = what) -> None:
            owner = ('mmcv.ops', pair.yardstick_name)[index]
            failures.append(f'{what}, {owner}: {error_text(error)}')
            log(f'not measured: {pair.name}, {failures[-1]}')

        candidates = [turns(run, t, inputs) for run, t in zip(operators, times)]
        before = len(failures)
        take_turns(f'{pair.name}, {what}', candidates, failed, rounds=ROUNDS)
        if len(failures) == before:
            pair.seconds[what] = times
    return failures


def run_once(run: Operator, inputs: Sequence[Tensor], device: str) -> None:
    """Runs an operator, and its backward pass where inputs ask for it."""
    out = run(*inputs)
    if out.requires_grad:
        asking = [x for x in inputs if x.requires_grad]
        # The regions of RoIs have no gradient.
        torch.autograd.grad(out, asking, torch.ones_like(out), allow_unused=True)
    synchronize(device)


def operator_table(pairs: Sequence[Pair]) -> str:
    """Returns the table of times and of their ratios, round by round."""
    columns = ['operator', 'input', 'pass', 'against', 'its ms', 'ms', 'times as long']
    rows = []
    for pair in pairs:
        for what, (ours, others) in pair.seconds.items():
            ratios = quartiles([a / b for a, b in zip(ours, others)])
            rows.append(
                [
                    pair.name,
                    size_text(pair.inputs[0].shape),
                    what,
                    pair.yardstick_name,
                    *(number(1e3 * quartiles(seconds)[1]) for seconds in (others, ours)),
                    spread(ratios),
                ]
            )
    return markdown_table(columns, rows, align='llllrrr')
