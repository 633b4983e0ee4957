"""Fake CUDA tensors, which have shapes, types and a device but no numbers, without a GPU.

What runs on them goes through torch's dispatch as it would on CUDA, so that it tells which
operators a GPU would run, on what, and which memory they would take.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn import functional as F

from scopevit.errors import InputError
from scopevit.models.modes import compute_dtype


def check_cuda_code() -> None:
    """Raises an InputError where torch has no code for CUDA, and hence no fake tensors on it."""
    if not torch.backends.cuda.is_built():
        raise InputError(
            f'torch {torch.__version__} is built for CPUs alone: what a GPU would do is followed '
            'through the code of a torch built for CUDA; no GPU is needed'
        )


@contextmanager
def fake_cuda(shape_env: ShapeEnv | None = None) -> Iterator[None]:
    """Makes all tensors fake; what is made on CUDA needs no GPU.

    Args:
        shape_env: Makes symbols of sizes that depend on numbers; without, they are an error.
    """
    patches = [
        # Where there is a GPU, fake tensors would start it.
        (torch.cuda, 'is_available', lambda: False),
        # Autocast switches itself off where there is none.
        (torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False),
        (torch.cuda, 'is_bf16_supported', lambda *args, **kwargs: True),
        # They lie nowhere.
        (Tensor, 'data_ptr', lambda tensor: id(tensor)),
        # Checkpoints recompute once for all that asks for it in one backward pass.
        (torch._C, '_current_graph_task_id', lambda: 0),
    ]
    with ExitStack() as stack:
        for holder, name, value in patches:
            stack.enter_context(patch.object(holder, name, value))
        stack.enter_context(FakeTensorMode(shape_env=shape_env))
        yield


@contextmanager
def fused_attention() -> Iterator[None]:
    """Sends `F.scaled_dot_product_attention` on fake CUDA tensors to the kernel of a GPU.

    torch asks the GPU whether it has such kernels, and where there is none to ask takes the plain
    way, with the whole attention matrix. Of those kernels the memory-efficient one alone takes a
    bias; those of flash and cuDNN, which go first without a bias in half precision, keep as much.
    """
    with patch.object(F, 'scaled_dot_product_attention', efficient_attention):
        yield


def efficient_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """`F.scaled_dot_product_attention` by CUDA's memory-efficient kernel, as torch prepares it.

    Args:
        q: Queries, (B, heads, S, D).
        k: Keys, (B, heads, K, D).
        v: Values, as the keys.
        attn_mask: Bias of the logits that broadcasts to (B, heads, S, K).
        dropout_p: Probability that a weight becomes 0.
        is_causal: Whether queries see no later keys.
        scale: Of the logits.

    Returns:
        (B, heads, S, D).
    """
    dtype = compute_dtype(q)  # the operator itself is none of those that autocast knows
    q, k, v = (x.to(dtype) for x in (q, k, v))
    if attn_mask is not None:
        attn_mask, keys = attn_mask.to(dtype), k.shape[-2]
        if keys % 8:  # the kernel reads rows of a multiple of 8 numbers
            attn_mask = F.pad(attn_mask, (0, -keys % 8))[..., :keys]
        attn_mask = attn_mask.expand(*q.shape[:-1], keys)
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    attend = torch.ops.aten._scaled_dot_product_efficient_attention
    return attend(q, k, v, attn_mask, needs_grad, dropout_p, is_causal, scale=scale)[0]


def to_cuda(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """As `module.to('cuda', dtype)`, from real tensors to fake ones."""

    def moved(x: Tensor) -> Tensor:
        kept = dtype if x.is_floating_point() else x.dtype
        return torch.empty(x.shape, dtype=kept, device='cuda')

    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(moved(parameter), parameter.requires_grad)
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = moved(buffer)
    return module


@torch.no_grad()
def backward(x: Tensor) -> None:
    """As `x.sum().backward()`, without the autograd engine, which asks the driver for streams.

    Nodes run in the engine's order, and what they saved goes as they are done: `x` is detached from
    the graph, of which nothing is kept here.
    """
    root: Any = x.grad_fn
    waiting = count_gradients(root)
    grads: dict[Any, dict[int, Tensor]] = {root: {0: torch.ones_like(x)}}
    tickets = itertools.count()
    ready = [(0, next(tickets), root)]  # the latest of the forward pass goes first
    x.detach_()
    del root
    while ready:
        node = heapq.heappop(ready)[2]
        given = grads.pop(node, {})
        if hasattr(node, 'variable'):  # a leaf
            node.variable.grad = given.get(0)
            continue
        apply = getattr(node, 'apply', node)  # of Python functions
        out = apply(*(given.get(i) for i in range(len(node._input_metadata))))
        del given
        out = out if isinstance(out, tuple) else (out,)
        for grad, (after, index) in zip(out, node.next_functions):
            if after is None:
                continue
            if grad is not None:
                meta, known = after._input_metadata[index], grads.setdefault(after, {})
                grad = grad.sum_to_size(meta.shape).to(meta.dtype)
                known[index] = known[index] + grad if index in known else grad
            waiting[after] -= 1
            if not waiting[after]:
                del waiting[after]
                heapq.heappush(ready, (-after._sequence_nr(), next(tickets), after))
        del apply, out, grad, node


def count_gradients(root: Any) -> Counter[Any]:
    """Returns for how many gradients each node of a graph waits."""
    waiting: Counter[Any] = Counter()
    found = [root]
    while found:
        for after, _ in found.pop().next_functions:
            if after is not None:
                found += [] if after in waiting else [after]
                waiting[after] += 1
    return waiting
