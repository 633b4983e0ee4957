"""Training, resuming and testing each task on real images, through the tools and the launchers."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import torch
from findings import Findings
from mini import MINI
from parity import computing_in, judge, worst
from processes import run
from tasks import write_task
from torch import Tensor

from scopevit import ScopeViT


@dataclass(frozen=True)
class Demo:
    """A recipe of the demo, and what makes it train for two steps, or as many more."""

    config: str
    by_epoch: bool = True

    def options(self, runs: int) -> list[str]:
        """Returns the settings of the first run, or of the second, which goes on from there."""
        last, interval = ('max_epochs', 1) if self.by_epoch else ('max_iters', 2)
        return [
            *SHORT,
            f'train_cfg.{last}={runs * interval}',
            f'train_cfg.val_interval={interval}',
            f'default_hooks.checkpoint.interval={interval}',
        ]

    @property
    def checkpoint(self) -> str:
        """What the second run leaves."""
        return 'epoch_2.pth' if self.by_epoch else 'iter_4.pth'


DEMOS = {
    'classification': Demo('classification_scopevit-xtiny_fashion-mnist'),
    'detection': Demo('mask-rcnn_scopevit-xtiny_fpn_nuclei'),
    'segmentation': Demo('fpn_scopevit-xtiny_nuclei', by_epoch=False),
    'pose': Demo('td-hm_scopevit-xtiny_people-256x192'),
}
SHORT_TEST = ['test_dataloader.batch_size=2', 'test_dataloader.dataset.indices=4']
SHORT = [
    'train_dataloader.batch_size=4',
    'train_dataloader.dataset.indices=8',
    'val_dataloader.batch_size=2',
    'val_dataloader.dataset.indices=4',
    'default_hooks.logger.interval=1',
]
# A gradient of a ReLU jumps where its input is 0, which another order of sums moves.
COMPILED_ERROR = 0.05


@dataclass
class Chain:
    """A short training, its resumption and a test of what came out."""

    task: str
    amp: bool
    launched: bool  # through tools/dist_*.sh
    seconds: dict[str, float] = field(default_factory=dict)
    failed: str = ''

    @property
    def name(self) -> str:
        return f'{self.task}{" with --amp" * self.amp}{", launched" * self.launched}'

    def commands(self, folder: Path, processes: int) -> Iterator[tuple[str, list[str]]]:
        """Yields the commands by what they do."""
        demo = DEMOS[self.task]
        train, test = ([sys.executable, f'tools/{name}.py'] for name in ('train', 'test'))
        if self.launched:
            train, test = (['bash', f'tools/dist_{name}.sh'] for name in ('train', 'test'))
        config = f'configs/demo/{demo.config}.py'
        gpus = [str(processes)] if self.launched else []
        train += [config, *gpus, '--work-dir', str(folder), *['--amp'] * self.amp]
        yield 'train', [*train, '--cfg-options', *demo.options(1)]
        yield 'resume', [*train, '--resume', '--cfg-options', *demo.options(2)]
        test += [config, str(folder / demo.checkpoint), *gpus]
        yield 'test', [*test, '--work-dir', str(folder / 'test'), '--cfg-options', *SHORT_TEST]


def run_chain(chain: Chain, folder: Path, processes: int, device: str) -> Chain:
    """Runs the commands of a chain up to the first that fails, and looks at what they wrote."""
    environment = {'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
    for step, command in chain.commands(folder, processes):
        ended = run(command, folder.with_suffix(f'.{step}.log'), environment=environment)
        chain.seconds[step] = ended.seconds
        if ended.failed:
            chain.failed = f'{step}: {ended.failed}'
            return chain
    try:
        chain.failed = '; '.join(faults(folder, device))
    except (OSError, ValueError, KeyError, IndexError) as error:
        chain.failed = f'what it wrote cannot be read: {type(error).__name__}: {error}'
    return chain


def faults(folder: Path, device: str) -> list[str]:
    """Returns what is wrong with what a chain wrote, a line each."""
    found, steps = [], []
    for path in sorted(folder.glob('2*/vis_data/scalars.json')):
        lines = map(json.loads, path.read_text(encoding='utf-8').splitlines())
        steps.append([line for line in lines if 'loss' in line])
    numbers = [[line['step'] for line in lines] for lines in steps]
    first, second = numbers if len(numbers) == 2 else ([], [])
    if not (first and second) or first + second != list(range(1, 1 + len(first + second))):
        found.append(f'it logged the steps {numbers}, not some and those after them')
    bad = [line['step'] for lines in steps for line in lines if not math.isfinite(line['loss'])]
    if bad:
        found.append(f'the loss of step {bad[0]} is no number')
    written = json.loads((folder / 'test' / 'metrics.json').read_text(encoding='utf-8'))
    if not written['metrics']:
        found.append('the test has no metrics')
    expected = torch.cuda.get_device_name() if device == 'cuda' else 'cpu'
    if written['device'] != expected:
        found.append(f'the test ran on {written["device"]}, not on {expected}')
    return found


def check_runs(device: str, findings: Findings) -> None:
    """Runs all chains, several at a time, those without a launcher first."""
    cores = len(os.sched_getaffinity(0))
    lanes = max(min(cores // 2, 8), 1) if device == 'cuda' else cores
    processes = min(torch.cuda.device_count(), 2) if device == 'cuda' else 1
    kinds = [(False, False), (True, False), (False, True), (True, True)]
    chains = [Chain(task, amp, launched) for amp, launched in kinds for task in DEMOS]
    if device == 'cpu':
        chains = [*chains[:4], chains[4], chains[8]]  # one with --amp, one that is launched
    folder = findings.path.parent / 'work_dirs'
    columns = ['run', 'train (s)', 'resume (s)', 'test (s)', 'result']
    rows = []
    begin = time.monotonic()
    with ThreadPoolExecutor(lanes) as pool:
        waiting = [
            pool.submit(run_chain, chain, folder / f'{index:02}', processes, device)
            for index, chain in enumerate(chains)
        ]
        for done in as_completed(waiting):
            chain = done.result()
            seconds = [f'{chain.seconds[s]:.0f}' if s in chain.seconds else ''
                       for s in ('train', 'resume', 'test')]  # fmt: skip
            rows.append([chain.name, *seconds, 'failed' if chain.failed else 'ok'])
            findings.table('Trained, resumed, tested on real images', columns, sorted(rows))
            if chain.failed:
                findings.problem(f'{chain.name}: {chain.failed}')
    findings.note(
        f'{len(chains)} runs, {lanes} at a time, in {time.monotonic() - begin:.0f} s; '
        f'a launched one has {processes} process{"es" * (processes > 1)}'
    )


def check_operators(device: str, findings: Findings) -> None:
    """Runs the tests of the operators behind mmcv.ops, those on the device among them."""
    report = findings.path.parent / 'operators.xml'
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-p', 'no:xdist',
               f'--junitxml={report}', 'tests/test_compat/test_mmcv_ext.py']  # fmt: skip
    environment = {'SCOPEVIT_TEST_CUDA': '1'} if device == 'cuda' else {}
    ended = run(command, findings.path.parent / 'operators.log', environment=environment)
    if not report.is_file():
        findings.problem(f'the tests did not run: {ended.failed}')
        return
    keep_tests(report, ended.failed, device, findings)


def keep_tests(report: Path, failed: str, device: str, findings: Findings) -> None:
    """Keeps how many tests of a JUnit report passed, and those that did not with the reason."""
    cases = list(ElementTree.parse(report).getroot().iter('testcase'))
    bad = [(case, part) for case in cases for part in case if part.tag in ('failure', 'error')]
    skipped = [case for case in cases if case.find('skipped') is not None]
    for case, part in bad:
        reason = (part.get('message') or '').strip().splitlines()
        findings.problem(f'{case.get("name")}: {reason[0] if reason else part.tag}')
    if failed and not bad:
        findings.problem(f'pytest: {failed}')
    # Without a GPU that torch finds, there are none to fail.
    if device == 'cuda' and not any('cuda' in case.get('name') for case in cases):
        findings.problem('no test ran on the GPU')
    passed = len(cases) - len(bad) - len(skipped)
    row = [str(passed), str(len(bad)), str(len(skipped))]
    findings.table('Tests of the operators', ['passed', 'failed', 'skipped'], [row])


def check_compile(device: str, findings: Findings) -> None:
    """Compares the compiled backbone with itself, and trains a miniature with `compile=True`."""
    # On a CPU, without what takes a C++ compiler minutes.
    arch, size, backend = (
        ('xtiny', 224, 'inductor') if device == 'cuda' else (MINI, 64, 'aot_eager')
    )
    torch.manual_seed(0)
    model = ScopeViT(arch, layer_scale_init_value=0.5).to(device).eval()
    images = torch.randn(2, 3, size, size, device=device)
    rows = []
    for dynamic in (False, True) if device == 'cuda' else (False,):
        begin = time.monotonic()
        compiled = torch.compile(model, dynamic=dynamic, backend=backend)
        with computing_in('float32', device):
            pairs = list(zip(trained(compiled, images), trained(model, images)))
        seconds = time.monotonic() - begin
        error = worst([((a - b).abs().max() / b.abs().max()).item() for a, b in pairs])
        name = 'for any size' if dynamic else 'for one size'
        judge(findings, f'compiled {name}, maps and gradients', error, COMPILED_ERROR)
        rows.append([name, f'{seconds:.0f}', f'{error:.0e}'])
        columns = ['compiled', 'seconds', 'largest error of maps and gradients']
        findings.table(f'The backbone compiled at {size}×{size}', columns, rows)
    task = write_task('classification', findings.path.parent / 'compiled')
    with task.config.open('a', encoding='utf-8') as config:
        config.write(f'compile = dict(backend={backend!r})\n')
    command = [sys.executable, 'tools/train.py', str(task.config), '--work-dir', str(task.work_dir)]
    ended = run(command, findings.path.parent / 'compiled.log')
    if ended.failed:
        findings.problem(f'tools/train.py of a config with compile: {ended.failed}')
    findings.note(f'a training with {backend} took {ended.seconds:.0f} s')


def trained(forward: Callable[[Tensor], tuple[Tensor, ...]], images: Tensor) -> list[Tensor]:
    """Returns the maps of images and the gradient of the images."""
    images = images.clone().requires_grad_()
    maps = forward(images)
    torch.stack([out.square().mean() for out in maps]).sum().backward()
    return [out.detach() for out in (*maps, images.grad)]
