"""The golden cases on a device, in every precision: the network equals the published one there."""

import contextlib
import copy
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from findings import Findings
from golden import (
    CASES,
    GOLDEN_DIR,
    golden_classifier,
    golden_image,
    parse_case,
    relative_error,
    sample,
)
from torch import Tensor, nn

# The most that outputs may differ by, over their largest magnitude. TF32 has float16's mantissa;
# what halves lose was measured on a CPU, at 0.003 (float16) and 0.025 (bfloat16).
PRECISIONS = {
    'float64': 1e-6,
    'float32': 2e-4,
    'TF32': 0.01,
    'bfloat16': 0.06,
    'float16': 0.01,
}
# In these the gradient of the image is compared too. A ReLU's jumps where its input is 0, so that
# float32's depends on how the last bits were rounded.
GRADIENTS = {'float64': 1e-6, 'float32': 0.05}
CPU_CASES = ('xtiny_1x3x224x224', 'tiny_1x3x256x192')  # done within a minute
HALVES = {'bfloat16': torch.bfloat16, 'float16': torch.float16}


@contextlib.contextmanager
def computing_in(precision: str, device: str) -> Iterator[None]:
    """Sets TF32, which cuDNN takes for float32 unless told otherwise, and autocast."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = precision == 'TF32'
    dtype = HALVES.get(precision)
    try:
        with torch.autocast(device, dtype, enabled=dtype is not None):
            yield
    finally:
        for backend, value in zip(backends, before):
            backend.allow_tf32 = value


def outputs(model: nn.Module, image: Tensor, with_grad: bool) -> dict[str, Tensor]:
    """Returns the maps, the logits and, if asked for, the gradient of the image."""
    image = image.requires_grad_(with_grad)
    with torch.set_grad_enabled(with_grad):
        maps = model.backbone(image)
        logits = model.head((model.neck(maps)[-1],))
    found = {f'stage{i}_sample': stage for i, stage in enumerate(maps)}
    found['logits'] = logits
    if with_grad:
        (found['input_grad_sample'],) = torch.autograd.grad(0.5 * (logits**2).sum(), image)
    return {name: value.detach().double().cpu() for name, value in found.items()}


def errors(found: dict[str, Tensor], golden: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest error of maps and logits, and that of the gradient."""
    by_name = {
        name: relative_error(value.numpy() if name == 'logits' else sample(value), golden[name])
        for name, value in found.items()
    }
    gradient = by_name.pop('input_grad_sample', None)
    outputs = worst(by_name.values())
    return {'outputs': outputs} if gradient is None else {'outputs': outputs, 'gradient': gradient}


def worst(errors: Iterable[float]) -> float:
    """Returns the largest of some errors, NaN if one of them is, which `max` might lose."""
    return float(np.max(list(errors)))


def check_parity(device: str, findings: Findings) -> None:
    """Compares each golden case in each precision, as trained and as deployed."""
    precisions = [p for p in PRECISIONS if device == 'cuda' or p != 'TF32']
    cases = CASES if device == 'cuda' else CPU_CASES
    columns = ['case', 'form', *precisions, *(f'gradient, {p}' for p in GRADIENTS)]
    rows = []
    for case in cases:
        arch, shape = parse_case(case)
        golden = read_golden(GOLDEN_DIR / f'{case}.npz', findings)
        if golden is None:
            continue
        trained = copy.deepcopy(golden_classifier(arch)).to(device)
        deployed = copy.deepcopy(trained).double()  # folds exactly
        deployed.backbone.switch_to_deploy()
        for form, model in (('trained', trained), ('deployed', deployed)):
            cells = {}
            for precision in precisions:
                dtype = torch.float64 if precision == 'float64' else torch.float32
                image = golden_image(shape).to(device, dtype)
                with_grad = form == 'trained' and precision in GRADIENTS
                with computing_in(precision, device):
                    found = outputs(model.to(dtype), image, with_grad)
                error = errors(found, golden)
                cells[precision] = error['outputs']
                judge(findings, f'{case}, {form}, {precision}', error['outputs'],
                      PRECISIONS[precision])  # fmt: skip
                if with_grad:
                    cells[f'gradient, {precision}'] = error['gradient']
                    judge(findings, f'{case}, gradient, {precision}', error['gradient'],
                          GRADIENTS[precision])  # fmt: skip
            rows.append(
                [case, form, *(f'{cells[c]:.0e}' if c in cells else '' for c in columns[2:])]
            )
            findings.table('Largest error over the largest magnitude', columns, rows)
    findings.note(
        'allowed: ' + ', '.join(f'{p} {PRECISIONS[p]:g}' for p in precisions) + '; gradients '
        + ', '.join(f'{p} {limit:g}' for p, limit in GRADIENTS.items())
    )  # fmt: skip


def read_golden(path: Path, findings: Findings) -> dict[str, np.ndarray] | None:
    """Returns the numbers of a case; keeps a problem where its file is damaged."""
    try:
        return dict(np.load(path))
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        findings.problem(f'{path} is damaged: {error}')
        return None


def judge(findings: Findings, what: str, error: float, limit: float) -> None:
    """Keeps a problem unless an error is below a limit."""
    if not error < limit:
        findings.problem(f'{what}: off by {error:.1e}, where {limit:g} is allowed')
