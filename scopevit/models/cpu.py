"""What exists for a device, mostly for a CPU: it computes the same as the plain way does."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scopevit.models.modes import compute_dtype, is_known

# Numbers of the widest map that is made at a time, 4 MB in float32. Larger ones leave the caches,
# and the C library gives their memory back to the system after every use.
PART_NUMEL = 2**20
# The largest batch that CUDA's attention kernels take at a time: it is a dimension of their grid
# (`getBlocksGrid` in torch's mem_eff_attention/kernel_backward.h), as the heads are by themselves.
# torch splits larger ones, but fails at the gradient of a bias (pytorch pull request 177985).
MAX_BATCH = 2**16 - 1


class TokenLinear(nn.Linear):
    """Linear layer on the last axis of (..., H, W, C).

    On a CPU, in float32, it is computed as a 1x1 convolution, for which torch takes oneDNN: on
    processors that are not Intel's, that is twice as fast as the MKL that linear layers get.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != 'cpu' or compute_dtype(x) != torch.float32:
            return super().forward(x)
        image: Sequence[int] = x.shape[-3:]
        if not torch.compiler.is_compiling() and torch.get_num_threads() == 1:
            image = (1, *x.shape[-2:])  # a single thread gets oneDNN from 16 images on
        # (..., H, W, C) -> (B', H', W, C) -> (B', C, H', W)
        maps = x.reshape(-1, *image).permute(0, 3, 1, 2)
        out = F.conv2d(maps, self.weight[:, None, None].permute(0, 3, 1, 2), self.bias)
        # (B', C, H', W) -> (B', H', W, C) -> (..., H, W, C)
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Scaled dot product attention with a bias of the logits.

    Args:
        q: Queries, (B, heads, S, D); `k` and `v`, keys and values, have the same shape.
        bias: (1 or B, heads, S, S), queries before keys.

    Returns:
        (B, heads, S, D).
    """
    if bias.requires_grad and q.device.type == 'cpu':
        # No fused kernel of a CPU has the gradient of a bias, and what torch does without one
        # takes more steps than these.
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        return (logits + bias).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def is_pointwise(norm: nn.Module) -> bool:
    """Whether a norm treats every pixel alike: a batch norm by its running statistics, or none."""
    is_fixed = isinstance(norm, _BatchNorm) and not norm.training and norm.running_mean is not None
    return is_fixed or isinstance(norm, nn.Identity)


def part_size(size: int, numel: int, x: Tensor) -> int:
    """Returns how many entries of an axis of `size` to work on at a time; see `in_parts`."""
    # A compiler that does not know the sizes gets the whole.
    if not is_known(*x.shape):
        return size
    if x.device.type != 'cpu':
        return min(size, MAX_BATCH)
    return min(max(PART_NUMEL // numel, 1), size)


def in_parts(function: Callable[[Tensor], Tensor], x: Tensor, numel: int) -> Tensor:
    """Applies a function that treats the entries of the first axis alike, a part at a time.

    Args:
        function: Keeps the shape.
        x: (N, ...).
        numel: Numbers of the widest map that is made of one entry.
    """
    size = part_size(x.shape[0], numel, x)
    if size == x.shape[0]:
        return function(x)
    return torch.cat([function(part) for part in x.split(size)])


def in_strips(function: Callable[[Tensor], Tensor], x: Tensor, numel: int, halo: int) -> Tensor:
    """Applies a function of maps image by image, or strip by strip where an image is large.

    With gradients it is applied to the whole: the backward pass needs all maps in any case.

    Args:
        function: Keeps the shape; a row of what it returns depends on no row further than `halo`.
        x: (B, C, H, W).
        numel: Numbers of the widest map that is made of one row of an image.
        halo: Rows.
    """
    if torch.is_grad_enabled():
        return function(x)
    height = x.shape[2]

    def in_rows(images: Tensor) -> Tensor:
        rows = part_size(height, numel, images)
        if rows == height:
            return function(images)
        strips = []
        for top in range(0, height, rows):
            above, bottom = min(top, halo), min(top + rows, height)
            # Beyond its ends the function sees a border, which is wrong where the map goes on.
            strip = function(images[:, :, top - above : bottom + halo])
            strips.append(strip[:, :, above : above + bottom - top])
        return torch.cat(strips, dim=2)

    return in_parts(in_rows, x, height * numel)
