"""Which kernels torch takes for the attention of a network's layers."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from scopevit.report import markdown_table, size_text

# torch's fused operators by what the field calls them.
FUSED = {
    'aten::_scaled_dot_product_flash_attention': 'flash',
    'aten::_scaled_dot_product_efficient_attention': 'memory-efficient',
    'aten::_scaled_dot_product_cudnn_attention': 'cuDNN',
    'aten::_scaled_dot_product_fused_attention_overrideable': 'overrideable',
    'aten::_scaled_dot_product_flash_attention_for_cpu': 'flash (CPU)',
}
# Inference mode does not take these apart by itself.
COMPOSITE = ('aten::scaled_dot_product_attention', 'aten::softmax')
MATH = 'math'  # products and a softmax, which torch takes where no fused operator fits
PRODUCTS = 'products'  # the same in the layer's own code
COLUMNS = ['layer', 'queries', 'keys', 'bias', 'kernel']


@dataclass(frozen=True)
class AttentionCall:
    """One attention, as torch computed it."""

    layer: str  # dotted name of the module that asked for it
    kernel: str  # one of the values of `FUSED`, `MATH` or `PRODUCTS`
    queries: tuple[int, ...]  # (B, heads, S, D); with `PRODUCTS` without D
    keys: int
    has_bias: bool | None  # of the logits; None with `PRODUCTS`, which do not tell
    count: int = 1  # how many such calls there were

    @property
    def cells(self) -> tuple[str, ...]:
        """What a table says of it, but for the count."""
        bias = {True: 'yes', False: 'no', None: ''}[self.has_bias]
        return self.layer, size_text(self.queries), str(self.keys), bias, self.kernel


def attention_kernels(module: nn.Module, run: Callable[[], object]) -> list[AttentionCall]:
    """Returns the attention of a run, forward and perhaps backward, in the order of the calls.

    Backward operators are those that belong to the forward ones, and not listed; layers that are
    computed again in the backward pass are listed again. What is compiled cannot be watched.

    Args:
        module: The network, whose modules give the layers their names.
        run: Runs it.
    """
    calls: list[AttentionCall] = []
    with names_of_running(module) as running:

        def record(kernel: str, queries: Sequence[int], keys: int, has_bias: bool | None) -> None:
            layer = running[-1] if running else ''
            calls.append(AttentionCall(layer, kernel, tuple(queries), keys, has_bias))

        # The function mode sees calls before torch has chosen, the dispatch mode what it chose.
        with MathAttention(record, calls), FusedAttention(record):
            run()
    return calls


@contextmanager
def names_of_running(module: nn.Module) -> Iterator[list[str]]:
    """Yields the names of the modules that run at the moment, from the outermost to the innermost.

    (torch's `ModuleTracker` loses its way where a checkpoint stops a layer that it recomputes.)
    """
    running: list[str] = []

    def enter(name: str, *_: object) -> None:
        running.append(name)

    def leave(*_: object) -> None:
        running.pop()

    with ExitStack() as hooks:
        for name, part in module.named_modules():
            hooks.enter_context(part.register_forward_pre_hook(partial(enter, name)))
            hooks.enter_context(part.register_forward_hook(leave, always_call=True))
        yield running


class FusedAttention(TorchDispatchMode):
    """Records the fused operators that run, and the softmax of layers that do without."""

    def __init__(self, record: Callable[..., None]) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        name = func._schema.name
        if name in COMPOSITE:
            with self:
                return func.decompose(*args, **kwargs)
        if name in FUSED:
            q, k = args[:2]
            biases = [kwargs.get('attn_mask'), kwargs.get('attn_bias'), *args[3:4]]
            has_bias = any(isinstance(bias, Tensor) for bias in biases)
            self.record(FUSED[name], q.shape, k.shape[-2], has_bias)
        elif name == 'aten::_softmax':
            self.record(PRODUCTS, args[0].shape[:-1], args[0].shape[-1], None)
        return func(*args, **kwargs)


class MathAttention(TorchFunctionMode):
    """Records calls of `F.scaled_dot_product_attention` of which no fused operator came."""

    def __init__(self, record: Callable[..., None], calls: list[AttentionCall]) -> None:
        super().__init__()
        self.record, self.calls = record, calls

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        before = len(self.calls)
        out = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention and len(self.calls) == before:
            given = dict(zip(('query', 'key', 'value', 'attn_mask'), args)) | kwargs
            has_bias = given.get('attn_mask') is not None
            self.record(MATH, given['query'].shape, given['key'].shape[-2], has_bias)
        return out


def join_blocks(calls: Iterable[AttentionCall]) -> list[AttentionCall]:
    """Makes one of calls that differ only in the block of a stage, as 'stages.0.blocks.*'."""
    counts: Counter[AttentionCall] = Counter()
    for call in calls:
        layer = re.sub(r'\bblocks\.\d+', 'blocks.*', call.layer)
        counts[replace(call, layer=layer, count=1)] += call.count
    return [replace(call, count=count) for call, count in counts.items()]


def attention_of_forms_table(forms: Mapping[str, Iterable[AttentionCall]]) -> str:
    """Returns the table of the calls of a network's forms, with the forms that have each."""
    found: dict[tuple[str, ...], list[str]] = {}
    for form, calls in forms.items():
        for call in join_blocks(calls):
            found.setdefault(call.cells, []).append(form)
    rows = [
        [*cells, 'all' if len(own) == len(forms) else ', '.join(own)]
        for cells, own in sorted(found.items())
    ]
    return markdown_table([*COLUMNS, 'forms'], rows, align='lrrlll')
