"""Speed on a device: forms of the backbone, models side by side, depth-wise convolutions."""

import json
import statistics
import sys
from pathlib import Path

import torch
from findings import Findings
from processes import run
from torch import Tensor, nn

from scopevit.benchmark.timing import synchronize, visit
from scopevit.models.scopevit import depthwise_conv
from scopevit.report import number

FORMS = ('eager', 'deployed', 'bf16', 'pure-bf16', 'deployed+pure-bf16')
INFERENCE = {
    'cuda': [f'inference-256x256-b{batch}' for batch in (1, 8, 64, 256)],
    'cpu': ['inference-64x64-b1'],
}
TABLE = ('scopevit-xtiny', 'scopevit-tiny', 'peers/convnextv2-pico', 'peers/pvt-small')
# Channels, side of the map and of the kernel: depth-wise convolutions of tiny at 256².
CONVOLUTIONS = ((128, 64, 3), (16, 64, 7), (32, 32, 7), (64, 16, 5), (1024, 8, 3), (128, 8, 7))


def run_tool(tool: str, arguments: list[str], device: str, findings: Findings) -> Path:
    """Runs one of the benchmarks into a folder beside the findings, and returns that."""
    out = findings.path.parent / Path(tool).stem
    command = [sys.executable, tool, *arguments, '--device', device, '--out', str(out)]
    failed = run(command, findings.path.parent / f'{Path(tool).stem}.log').failed
    if failed:
        findings.problem(f'{tool}: {failed}')
    return out


def check_inference(device: str, findings: Findings) -> None:
    """Times the backbone's forms with tools/benchmark/backbone_speed.py."""
    arch = 'tiny' if device == 'cuda' else 'xtiny'
    arguments = ['--arch', arch, '--cases', *INFERENCE[device], '--forms', *FORMS]
    out = run_tool('tools/benchmark/backbone_speed.py', arguments, device, findings)
    keep(findings, f'Backbone ({arch}), forms and batches', out / 'backbone_speed')


def check_compiled_speed(device: str, findings: Findings) -> None:
    """Times what a compiler makes of the backbone, with tools/benchmark/backbone_speed.py."""
    arch, case = (
        ('tiny', 'inference-256x256-b64') if device == 'cuda' else ('xtiny', 'inference-64x64-b1')
    )
    arguments = ['--arch', arch, '--cases', case, '--forms', 'eager', 'deployed+compiled']
    out = run_tool('tools/benchmark/backbone_speed.py', arguments, device, findings)
    keep(findings, f'Backbone ({arch}), compiled', out / 'backbone_speed')


def check_table(device: str, findings: Findings) -> None:
    """Measures models side by side with tools/benchmark/table.py."""
    recipes = [f'configs/classification/{name}_8xb128_in1k.py' for name in TABLE]
    arguments = [*recipes, '--max-minutes', '0.25']
    if device == 'cpu':
        arguments += ['--shape', '64', '64']
        arguments[:4] = recipes[:2]
    out = run_tool('tools/benchmark/table.py', arguments, device, findings)
    keep(findings, 'Models side by side', out / 'table')


def keep(findings: Findings, title: str, path: Path) -> None:
    """Keeps the page and the numbers that a benchmark wrote, if it did."""
    page, numbers = path.with_suffix('.md'), path.with_suffix('.json')
    if page.is_file() and numbers.is_file():
        findings.figures[title] = json.loads(numbers.read_text(encoding='utf-8'))
        # The machine is told once, by the first step.
        findings.page(title, page.read_text(encoding='utf-8').partition('\n## Machine')[0])


def check_convolutions(device: str, findings: Findings) -> None:
    """Times depth-wise convolutions, forward and backward, channels last and not."""
    batch = 64 if device == 'cuda' else 1
    layouts = {'NCHW': torch.contiguous_format, 'channels last': torch.channels_last}
    columns = ['channels, map, kernel', 'type', *(f'{name} (ms)' for name in layouts), 'ratio']
    rows = []
    for channels, side, kernel in CONVOLUTIONS:
        for dtype in (torch.float32, torch.float16) if device == 'cuda' else (torch.float32,):
            conv = depthwise_conv(channels, kernel).to(device, dtype)
            images = torch.randn(batch, channels, side, side, device=device, dtype=dtype)
            seconds = [convolution_seconds(conv, images, layout) for layout in layouts.values()]
            name = f'{channels}, {side}×{side}, {kernel}×{kernel}'
            figures = [number(1e3 * s) for s in seconds]
            rows.append([name, str(dtype)[6:], *figures, number(seconds[0] / seconds[1])])
            findings.table(
                f'Forward and backward, batch {batch}; above 1 channels last is faster',
                columns,
                rows,
            )


def convolution_seconds(conv: nn.Module, images: Tensor, layout: torch.memory_format) -> float:
    """Returns the median time of a forward and backward pass."""
    conv = conv.to(memory_format=layout)
    images = images.contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn_like(conv(images))
    device = images.device.type

    def step() -> None:
        conv(images).backward(weight)
        synchronize(device)

    step()
    return statistics.median(visit(step, at_least=0.05, trusted=0.05))
