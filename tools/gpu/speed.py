"""Speed on a device: forms of the backbone, models side by side, depth-wise convolutions."""

import json
import statistics
import sys

import torch
from findings import Findings
from processes import run
from torch import Tensor, nn

from scopevit.benchmark.timing import synchronize, visit
from scopevit.models.scopevit import depthwise_conv
from scopevit.report import number

BACKBONE_SPEED = 'tools/benchmark/backbone_speed.py'
ARCHS = {'cuda': 'tiny', 'cpu': 'xtiny'}
FORMS = ('eager', 'bf16', 'deployed+pure-bf16')
INFERENCE = {
    'cuda': [f'inference-256x256-b{batch}' for batch in (1, 8, 64, 256)],
    'cpu': ['inference-64x64-b1'],
}
COMPILED = {'cuda': 'inference-256x256-b64', 'cpu': 'inference-64x64-b1'}
MODELS = ('scopevit-xtiny', 'scopevit-tiny', 'peers/convnextv2-pico', 'peers/pvt-small')
# Channels, side of the map and of the kernel: depth-wise convolutions of tiny at 256².
CONVOLUTIONS = ((128, 64, 3), (16, 64, 7), (32, 32, 7), (64, 16, 5), (1024, 8, 3), (128, 8, 7))


def run_benchmark(
    title: str, tool: str, page: str, arguments: list[str], device: str, findings: Findings
) -> None:
    """Runs one of the benchmarks, and keeps what it wrote, even if it had to be stopped."""
    own = findings.path.parent
    command = [sys.executable, tool, *arguments, '--device', device, '--out', str(own / 'results')]
    ended = run(command, own / 'benchmark.log', max(findings.seconds_left, 1.0))
    path = own / 'results' / page
    if path.with_suffix('.json').is_file():
        findings.figures[title] = json.loads(path.with_suffix('.json').read_text(encoding='utf-8'))
        # The machine is told once, by the first step.
        findings.page(title, path.read_text(encoding='utf-8').partition('\n## Machine')[0])
    if ended.failed:
        findings.problem(f'{tool}: {ended.failed}')


def check_inference(device: str, findings: Findings) -> None:
    """Times the backbone's forms with tools/benchmark/backbone_speed.py."""
    arguments = ['--arch', ARCHS[device], '--cases', *INFERENCE[device], '--forms', *FORMS]
    title = f'Backbone ({ARCHS[device]}), forms and batches'
    run_benchmark(title, BACKBONE_SPEED, 'backbone_speed.md', arguments, device, findings)


def check_compiled_speed(device: str, findings: Findings) -> None:
    """Times what a compiler makes of the backbone, with tools/benchmark/backbone_speed.py."""
    forms = ['--forms', 'eager', 'deployed+compiled']
    arguments = ['--arch', ARCHS[device], '--cases', COMPILED[device], *forms]
    title = f'Backbone ({ARCHS[device]}), compiled'
    run_benchmark(title, BACKBONE_SPEED, 'backbone_speed.md', arguments, device, findings)


def check_table(device: str, findings: Findings) -> None:
    """Measures models side by side with tools/benchmark/table.py."""
    names = MODELS if device == 'cuda' else MODELS[:2]
    recipes = [f'configs/classification/{name}_8xb128_in1k.py' for name in names]
    short = [] if device == 'cuda' else ['--shape', '64', '64']
    arguments = [*recipes, '--max-minutes', '0.25', *short]
    title, tool = 'Models side by side', 'tools/benchmark/table.py'
    run_benchmark(title, tool, 'table.md', arguments, device, findings)


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
    # Of its own, so that the gradient has the layout, too.
    images = images.clone(memory_format=layout).requires_grad_()
    weight = torch.randn_like(conv(images))
    device = images.device.type

    def step() -> None:
        torch.autograd.grad(conv(images), (images, conv.weight), weight)
        synchronize(device)

    step()
    return statistics.median(visit(step, at_least=0.05, trusted=0.05))
