"""ScopeViT: Scale-aware Vision Transformer (Pattern Recognition 2024).

Paper: https://doi.org/10.1016/j.patcog.2024.110470

Four stages at strides 4, 8, 16 and 32. A stage is a patch embedding, its blocks and a norm; a block
is a layer of Multi-Scale Self-Attention (MSSA, every head sees keys of one receptive field)
followed by a layer of Global-Scale Dilated Attention (GSDA, every token attends to at most 8x8
tokens spread over the whole map). Between the convolutions, tokens are kept as (B, H, W, C), which
is the channels-last layout of an NCHW map, so that going from one to the other copies nothing.
"""

import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from scopevit.models.deploy import fold_batch_norm, fold_scale, is_pointwise

# One row a size. `kv_strides` are the strides of MSSA's key/value convolutions, `head_splits` how
# many heads of a stage look through the large, the medium and the small kernel, `grid_size` is the
# side of a full GSDA group.
ARCHS: dict[str, dict] = {
    'xtiny': dict(
        embed_dims=(32, 64, 128, 256),
        depths=(1, 2, 4, 1),
        num_heads=(2, 4, 8, 16),
        kv_strides=(4, 2, 1, 1),
        head_splits=((1, 1, 0), (2, 1, 1), (4, 3, 1), (8, 6, 2)),
        grid_size=8,
    ),
}
ARCHS['tiny'] = dict(ARCHS['xtiny'], depths=(2, 2, 5, 2))
ARCHS['small'] = dict(ARCHS['xtiny'], embed_dims=(64, 128, 256, 512), depths=(1, 2, 3, 1))
ARCH_ALIASES = {'xt': 'xtiny', 't': 'tiny', 's': 'small'}

KERNEL_SIZES = (7, 5, 3)  # of the large, medium and small heads
REL_POS_HIDDEN_DIMS = 512
REL_POS_DROPOUT = 0.125
MIN_INPUT_SIZE = 32
# Numbers of the widest map that is made at a time on a CPU, 4 MB in float32. Larger ones leave the
# caches, and the C library gives their memory back to the system after every use.
PART_NUMEL = 2**20


class TokenLinear(nn.Linear):
    """Linear layer on the last axis of (..., H, W, C).

    On the CPU, in float32, it is computed as a 1x1 convolution, for which torch takes oneDNN: on
    processors that are not Intel's, that is twice as fast as the MKL that linear layers get.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != 'cpu' or compute_dtype(x) != torch.float32:
            return super().forward(x)
        image = x.shape[-3:]
        if not torch.compiler.is_compiling() and torch.get_num_threads() == 1:
            image = (1, *x.shape[-2:])  # a single thread gets oneDNN from 16 images on
        # (..., H, W, C) -> (B', H', W, C) -> (B', C, H', W)
        maps = x.reshape(-1, *image).permute(0, 3, 1, 2)
        out = F.conv2d(maps, self.weight[:, None, None].permute(0, 3, 1, 2), self.bias)
        # (B', C, H', W) -> (B', H', W, C) -> (..., H, W, C)
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)


def part_size(size: int, numel: int, x: Tensor) -> int:
    """Returns how many entries of an axis to work on at a time.

    Args:
        size: Size of the axis.
        numel: Numbers of the widest map that is made of one entry of the axis.
        x: What the maps are made of.

    Returns:
        On a CPU as many as make `PART_NUMEL` numbers; elsewhere, and where a compiler does not
        know the sizes, all.
    """
    if x.device.type != 'cpu':
        return size
    if torch.compiler.is_compiling() and not all(map(is_known, x.shape)):
        return size
    return min(max(PART_NUMEL // numel, 1), size)


def join(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Joins parts along an axis; a single one as it is, without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


class Mlp(nn.Module):
    """Two linear layers with a GELU between; (B, H, W, C) to (B, H, W, C)."""

    def __init__(self, dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = TokenLinear(dims, hidden_dims)
        self.act = nn.GELU()
        self.fc2 = TokenLinear(hidden_dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, 1)  # (B, H, W, C) -> (B * H, W, C)
        size = part_size(len(rows), x.shape[-2] * self.fc1.out_features, x)
        out = [self.fc2(self.act(self.fc1(part))) for part in rows.split(size)]
        return join(out).reshape(x.shape)


class ConvPositionEncoding(nn.Module):
    """Inverted residual that tells every token its surroundings; (B, C, H, W) to the same."""

    def __init__(self, dims: int, norm_cfg: dict, expand_ratio: int = 4) -> None:
        super().__init__()
        hidden_dims = dims * expand_ratio
        self.expand = nn.Conv2d(dims, hidden_dims, 1, bias=False)
        self.norm1 = build_norm_layer(norm_cfg, hidden_dims)[1]
        self.depthwise = nn.Conv2d(
            hidden_dims, hidden_dims, 3, padding=1, groups=hidden_dims, bias=False
        )
        self.norm2 = build_norm_layer(norm_cfg, hidden_dims)[1]
        self.project = nn.Conv2d(hidden_dims, dims, 1, bias=False)
        self.norm3 = build_norm_layer(norm_cfg, dims)[1]
        self.act = nn.ReLU(inplace=True)  # no layer before it needs its own output afterwards

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        row = width * self.expand.out_channels
        is_cut = not torch.is_grad_enabled() and all(
            is_pointwise(norm) for norm in (self.norm1, self.norm2, self.norm3)
        )
        images = part_size(batch, height * row, x) if is_cut else batch
        if images < batch:
            return torch.cat([self.forward(part) for part in x.split(images)])
        rows = part_size(height, row, x) if is_cut else height
        if rows < height:
            strips = [slice(top, min(top + rows, height)) for top in range(0, height, rows)]
            return x + torch.cat([self.strip_residual(x, strip) for strip in strips], dim=2)
        return x + self.norm3(self.project(self.hidden(x)))

    def hidden(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C * expand_ratio, H, W)."""
        out = self.act(self.norm1(self.expand(x)))
        return self.act(self.norm2(self.depthwise(out)))

    def strip_residual(self, x: Tensor, rows: slice) -> Tensor:
        """Makes some rows of the residual, from them and the rows beside them."""
        above, below = min(rows.start, 1), min(x.shape[2] - rows.stop, 1)
        out = self.hidden(x[:, :, rows.start - above : rows.stop + below])
        # Outside the strip there were zeros, which are wrong where the map goes on.
        return self.norm3(self.project(out[:, :, above : out.shape[2] - below]))

    def fold(self) -> None:
        """Folds the norms into the convolutions, whose results nothing else needs afterwards."""
        self.expand, self.norm1 = fold_batch_norm(self.expand, self.norm1)
        self.depthwise, self.norm2 = fold_batch_norm(self.depthwise, self.norm2)
        self.project, self.norm3 = fold_batch_norm(self.project, self.norm3)


class MultiScaleSelfAttention(nn.Module):
    """MSSA: attention whose heads see keys of different receptive fields.

    The map's channels are split among the large, medium and small heads; each part goes through a
    depth-wise convolution of its own kernel before it becomes keys and values.

    Args:
        dims: Channels C.
        num_heads: Heads; C is a multiple of it.
        kv_stride: Stride of the key/value convolutions.
        head_split: Large, medium and small heads, `num_heads` in all.
        norm_cfg: Norm of the position encoding.
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        kv_stride: int,
        head_split: Sequence[int],
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_dims = dims // num_heads
        self.position_encoding = ConvPositionEncoding(dims, norm_cfg)
        self.split_sizes = [head_dims * heads for heads in head_split if heads]
        self.scales = nn.ModuleList(
            nn.Conv2d(
                head_dims * heads,
                head_dims * heads,
                kernel_size,
                stride=kv_stride,
                padding=(kv_stride + kernel_size - 2) // 2,
                groups=head_dims * heads,
                bias=False,
            )
            for heads, kernel_size in zip(head_split, KERNEL_SIZES)
            if heads
        )
        self.query = TokenLinear(dims, dims, bias=False)
        self.key_value = TokenLinear(dims, 2 * dims, bias=False)
        self.proj = TokenLinear(dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Attends over the whole map.

        Args:
            x: Tokens, (B, H, W, C).

        Returns:
            Tokens, (B, H, W, C).
        """
        batch, height, width, dims = x.shape
        x = self.position_encoding(x.permute(0, 3, 1, 2))  # (B, H, W, C) -> (B, C, H, W)
        parts = x.split(self.split_sizes, dim=1)
        kv = torch.cat([conv(part) for conv, part in zip(self.scales, parts)], dim=1)
        # (B, C, H, W) -> (B, H, W, C) -> (B, N, heads, C / heads) -> (B, heads, N, C / heads)
        q = self.query(x.permute(0, 2, 3, 1))
        q = q.reshape(batch, height * width, self.num_heads, -1).transpose(1, 2)
        # (B, C, h, w) -> (B, h, w, 2C) -> (B, n, 2, heads, C / heads)
        #   -> (2, B, heads, n, C / heads)
        kv = self.key_value(kv.permute(0, 2, 3, 1))
        kv = kv.reshape(batch, -1, 2, self.num_heads, dims // self.num_heads)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v)
        # (B, heads, N, C / heads) -> (B, N, heads, C / heads) -> (B, H, W, C)
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, dims))

    def fold(self) -> None:
        """Folds the position encoding."""
        self.position_encoding.fold()


class RelativePositionBias(nn.Module):
    """Bias of a GSDA group's logits: a small MLP of the signed logarithmic slot offsets.

    In eval mode, where nobody asks for its gradient, it is made once and kept until the weights
    are others, until it is made with gradients, or until the mode is set. What overwrites weights
    through `.data` has to call `eval()` after it, as MMEngine does after its EMAHook.
    """

    def __init__(self, num_heads: int, grid_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.grid_size = grid_size
        self.fc1 = nn.Linear(2, REL_POS_HIDDEN_DIMS)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(REL_POS_DROPOUT)
        self.fc2 = nn.Linear(REL_POS_HIDDEN_DIMS, num_heads)

        steps = torch.arange(1 - grid_size, grid_size, dtype=torch.float32)
        offsets = torch.stack(torch.meshgrid(steps, steps, indexing='ij'), dim=-1)
        # One row for each offset (a - a', b - b'), (2G - 1, 2G - 1, 2).
        self.register_buffer('offsets', offsets.sign() * offsets.abs().log1p(), persistent=False)
        slots = torch.arange(grid_size)
        index = slots[:, None] - slots[None, :] + grid_size - 1  # (G, G): row of a - a'
        self.register_buffer('index', index, persistent=False)
        self.register_buffer('constant', None)  # (heads, S, S) of a full group, once folded
        self._cache: BiasCache | None = None

    def forward(self, kinds: Sequence[tuple[int, int]], dtype: torch.dtype) -> list[Tensor]:
        """Makes the biases of kinds of groups.

        Args:
            kinds: Rows and columns of each kind.
            dtype: Type of the biases.

        Returns:
            (heads, S, S) of each kind, with S = rows * columns slots; queries before
            keys.
        """
        weights = list(self.parameters()) or [self.constant]
        needs_grad = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
        is_compiling = torch.compiler.is_compiling()
        if self.training or needs_grad or is_compiling:
            if not is_compiling:  # a compiler traces the making of the bias, not its keeping
                self._cache = None  # an optimizer may follow, and fused ones leave no trace
            full = self.full()
            return [group_bias(full, rows, columns, dtype) for rows, columns in kinds]
        if self._cache is None or not self._cache.is_of(weights):
            # What inference mode makes could take part in no backward pass later.
            with torch.inference_mode(False), torch.no_grad():
                self._cache = BiasCache(weights, self.full())
        return [self._cache.get(rows, columns, dtype) for rows, columns in kinds]

    def full(self) -> Tensor:
        """Makes the bias of a full group, (heads, G, G, G, G), queries before keys."""
        if self.constant is not None:
            return self.constant.reshape(-1, *[self.grid_size] * 4)
        device = self.offsets.device.type
        # In the weights' precision: it is small, and every logit depends on it.
        with torch.autocast(device, enabled=False) if is_autocast_on(device) else nullcontext():
            table = self.fc2(self.drop(self.act(self.fc1(self.offsets))))
        # (2G - 1, 2G - 1, heads) -> (a, a', b, b', heads) -> (heads, a, b, a', b')
        table = table[self.index[:, :, None, None], self.index[None, None, :, :]]
        return table.permute(4, 0, 2, 1, 3)

    def fold(self) -> None:
        """Makes the bias a constant."""
        with torch.no_grad():
            # Flat, since modules are stored channels last with all their buffers of 4 or 5 axes.
            self.constant = self.full().flatten(3).flatten(1, 2).contiguous()
        self.fc1 = self.act = self.drop = self.fc2 = self.offsets = self.index = None
        self._cache = None

    def train(self, mode: bool = True) -> 'RelativePositionBias':
        """Sets the mode and forgets the bias."""
        self._cache = None
        return super().train(mode)

    def __getstate__(self) -> dict:
        """Leaves the cache out of copies and pickles."""
        return {**self.__dict__, '_cache': None}


def group_bias(full: Tensor, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Cuts the bias (heads, S, S) of groups of rows x columns slots from (heads, G, G, G, G)."""
    slots = rows * columns
    bias = full[:, :rows, :columns, :rows, :columns]
    return bias.reshape(-1, slots, slots).to(dtype)


class BiasCache:
    """The biases that came of some weights.

    Args:
        weights: What the bias was made of.
        full: Bias of a full group, (heads, G, G, G, G).
    """

    def __init__(self, weights: Sequence[Tensor], full: Tensor) -> None:
        # Held, so that no other tensor comes to lie where one of them was.
        self.weights = [weight.detach() for weight in weights]
        self.state = state_of(weights)
        self.full = full
        self.biases: dict[tuple[int, int, torch.dtype], Tensor] = {}

    def is_of(self, weights: Sequence[Tensor]) -> bool:
        """Whether `weights` are those the biases were made of, with their values of then."""
        return self.state is not None and self.state == state_of(weights)

    def get(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """See `group_bias`."""
        key = rows, columns, dtype
        if key not in self.biases:
            with torch.inference_mode(False), torch.no_grad():
                self.biases[key] = group_bias(self.full, rows, columns, dtype)
        return self.biases[key]


def state_of(tensors: Sequence[Tensor]) -> list[tuple] | None:
    """Returns what changes when tensors change; None of inference tensors, which do not tell."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    return [(t.data_ptr(), t._version, t.dtype, t.device) for t in tensors]


def dilated_spans(size: int, grid_size: int) -> tuple[int, list[tuple[slice, int]]]:
    """Splits one side of a map into its dilated groups.

    With dilation d, group i holds the positions i, i + d, i + 2d, ... The first groups may hold
    one position more than the others, so that there are at most two kinds of group.

    Args:
        size: Positions along the side.
        grid_size: The most positions that a group may hold.

    Returns:
        The dilation, and for each kind of group which groups
        are of the kind and how many positions each of them holds.
    """
    dilation = -(-size // grid_size)  # rounded up
    slots = -(-size // dilation)
    full = size - (slots - 1) * dilation  # groups that reach into the last, partial run
    spans = [(slice(0, full), slots)]
    if full < dilation:
        spans.append((slice(full, dilation), slots - 1))
    return dilation, spans


class GlobalScaleDilatedAttention(nn.Module):
    """GSDA: attention inside groups of tokens that lie a dilation apart, over the whole map.

    Args:
        dims: Channels C.
        num_heads: Heads; C is a multiple of it.
        grid_size: The most tokens that a group holds along a side.
    """

    def __init__(self, dims: int, num_heads: int, grid_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.grid_size = grid_size
        self.qkv = TokenLinear(dims, 3 * dims, bias=False)
        self.rel_pos = RelativePositionBias(num_heads, grid_size)
        self.proj = TokenLinear(dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Attends within the dilated groups.

        Args:
            x: Tokens, (B, H, W, C), of any H and W.

        Returns:
            Tokens, (B, H, W, C).
        """
        batch, height, width, dims = x.shape
        if torch.compiler.is_compiling() and not (is_known(height) and is_known(width)):
            return self.attend_any_size(x)
        dilation_y, spans_y = dilated_spans(height, self.grid_size)
        dilation_x, spans_x = dilated_spans(width, self.grid_size)
        rows, columns = spans_y[0][1], spans_x[0][1]
        kinds = [(slots_y, slots_x) for _, slots_y in spans_y for _, slots_x in spans_x]
        biases = self.rel_pos(kinds, compute_dtype(x))
        by_run = (batch, rows, dilation_y, columns, dilation_x, dims)
        if len(kinds) == 1:
            # (B, H, W, C) -> (B, rows, dy, columns, dx, C) -> (B, dy, dx, rows, columns, C)
            groups = x.reshape(by_run).permute(0, 2, 4, 1, 3, 5)
            # (B, dy, dx, rows, columns, C) -> (B, rows, dy, columns, dx, C) -> (B, H, W, C)
            return self.attend(groups, biases[0]).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)
        out = None
        spans = [(of_y, of_x) for of_y in spans_y for of_x in spans_x]
        for ((span_y, slots_y), (span_x, slots_x)), bias in zip(spans, biases):
            # (B, H, W, C) -> (B, rows, columns, C, gy, gx) -> (B, gy, gx, rows, columns, C)
            groups = x[:, span_y.start :, span_x.start :]
            groups = groups.unfold(1, span_y.stop - span_y.start, dilation_y)
            groups = groups.unfold(2, span_x.stop - span_x.start, dilation_x)
            groups = self.attend(groups.permute(0, 4, 5, 1, 2, 3), bias)
            # The slots that not all groups have stay unset, and are cut off below.
            out = groups.new_empty(by_run) if out is None else out
            # (B, gy, gx, rows, columns, C) -> (B, rows, gy, columns, gx, C)
            out[:, :slots_y, span_y, :slots_x, span_x] = groups.permute(0, 3, 1, 4, 2, 5)
        # (B, rows, dy, columns, dx, C) -> (B, H, W, C)
        out = out.reshape(batch, rows * dilation_y, columns * dilation_x, dims)
        return out[:, :height, :width]

    def attend(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attends inside each group.

        Args:
            x: Tokens by group, (B, gy, gx, rows, columns, C).
            bias: Bias of the logits, (heads, S, S) with S = rows * columns.

        Returns:
            The same shape.
        """
        groups = x.reshape(-1, *x.shape[-3:])  # (B', rows, columns, C)
        size = part_size(len(groups), bias.shape[-1] * self.qkv.out_features, x)
        out = [self.attend_part(part, bias) for part in groups.split(size)]
        return join(out).reshape(x.shape)

    def attend_part(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attends inside each of some groups, (B', rows, columns, C) to the same; see `attend`."""
        slots, dims = bias.shape[-1], x.shape[-1]
        # (B', rows, columns, 3C) -> (B', S, 3, heads, C / heads) -> (3, B', heads, S, C / heads)
        qkv = self.qkv(x).reshape(-1, slots, 3, self.num_heads, dims // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if bias.requires_grad and x.device.type == 'cpu':
            # No fused kernel of a CPU has the gradient of a bias, and what torch does without one
            # takes more steps than these.
            logits = (q * (dims // self.num_heads) ** -0.5) @ k.transpose(-2, -1)
            out = (logits + bias).softmax(dim=-1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        # (B', heads, S, C / heads) -> (B', S, heads, C / heads) -> (B', rows, columns, C)
        return self.proj(out.transpose(1, 2).reshape(x.shape))

    def attend_any_size(self, x: Tensor) -> Tensor:
        """Attends as `forward` does, by one graph for all sizes.

        A compiler that does not know the sizes would ask anew at each of them which groups are how
        large. Here all groups are full, and their missing slots are masked.

        Args:
            x: Tokens, (B, H, W, C).

        Returns:
            Tokens, (B, H, W, C).
        """
        batch, height, width, dims = x.shape
        grid, heads = self.grid_size, self.num_heads
        slots, head_dims = grid * grid, dims // heads
        dy, dx = (height + grid - 1) // grid, (width + grid - 1) // grid  # dilations, rounded up
        (bias,) = self.rel_pos([(grid, grid)], compute_dtype(x))
        # (groups y, rows) and (groups x, columns): whether the map has the position
        rows = torch.arange(grid * dy, device=x.device).lt(height).reshape(grid, dy).T
        columns = torch.arange(grid * dx, device=x.device).lt(width).reshape(grid, dx).T
        exists = (rows[:, None, :, None] & columns[None, :, None, :]).reshape(dy * dx, 1, 1, slots)
        # (heads, S, S) -> (gy * gx, heads, S, S) -> (1, gy * gx * heads, S, S)
        mask = bias[None].masked_fill(~exists, float('-inf')).reshape(1, -1, slots, slots)
        x = F.pad(x, (0, 0, 0, grid * dx - width, 0, grid * dy - height))
        # (B, H', W', C) -> (B, rows, gy, columns, gx, C) -> (B, gy, gx, rows, columns, C)
        x = x.unflatten(2, (grid, dx)).unflatten(1, (grid, dy)).permute(0, 2, 4, 1, 3, 5)
        # (B, gy, gx, rows, columns, C) -> (B, gy * gx, S, 3, heads, C / heads)
        #   -> (3, B, gy * gx, heads, S, C / heads) -> (3, B, gy * gx * heads, S, C / heads)
        qkv = self.qkv(x.reshape(batch, dy * dx, slots, dims))
        qkv = qkv.reshape(batch, dy * dx, slots, 3, heads, head_dims).permute(3, 0, 1, 4, 2, 5)
        q, k, v = qkv.reshape(3, batch, dy * dx * heads, slots, head_dims).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        # (B, gy * gx * heads, S, C / heads) -> (B, gy, gx, heads, rows, columns, C / heads)
        #   -> (B, rows, gy, columns, gx, heads, C / heads) -> (B, H', W', C) -> (B, H, W, C)
        out = out.reshape(batch, dy, dx, heads, grid, grid, head_dims)
        out = out.permute(0, 4, 1, 5, 2, 3, 6).reshape(batch, grid * dy, grid * dx, dims)
        # Cloned: whether the cut is dense already depends on the sizes.
        return self.proj(out[:, :height, :width].clone(memory_format=torch.contiguous_format))

    def fold(self) -> None:
        """Makes the bias a constant."""
        self.rel_pos.fold()


def is_known(size: int) -> bool:
    """Whether a compiler knows a size; asking it does not tie the graph to the answer."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # slow to import

    return statically_known_true(size % 2 == 0) or statically_known_true(size % 2 == 1)


def compute_dtype(x: Tensor) -> torch.dtype:
    """Returns the type in which linear layers compute on `x`."""
    device = x.device.type
    is_cast = is_autocast_on(device) and x.dtype != torch.float64
    return torch.get_autocast_dtype(device) if is_cast else x.dtype


def is_autocast_on(device: str) -> bool:
    """Whether autocast is enabled on a type of device; some, such as 'meta', have none."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


class TransformerLayer(nn.Module):
    """Pre-norm attention and MLP, each with LayerScale and stochastic depth.

    Args:
        attn: Attention on (B, H, W, C).
        dims: Channels C.
        mlp_ratio: Width of the MLP over C.
        drop_path_rate: Chance that a sample skips a branch, in training.
        layer_scale_init_value: Start of the LayerScale vectors; 0 for none.
    """

    def __init__(
        self,
        attn: nn.Module,
        dims: int,
        mlp_ratio: float,
        drop_path_rate: float,
        layer_scale_init_value: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dims)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dims)
        self.mlp = Mlp(dims, int(dims * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)
        if layer_scale_init_value > 0:
            self.gamma1 = nn.Parameter(torch.full((dims,), float(layer_scale_init_value)))
            self.gamma2 = nn.Parameter(torch.full((dims,), float(layer_scale_init_value)))
        else:
            self.gamma1 = self.gamma2 = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        x = self.add_branch(x, self.attn(self.norm1(x)), self.gamma1)
        return self.add_branch(x, self.mlp(self.norm2(x)), self.gamma2)

    def add_branch(self, x: Tensor, branch: Tensor, gamma: Tensor | None) -> Tensor:
        branch = self.drop_path(branch)
        return x + branch if gamma is None else torch.addcmul(x, branch, gamma)

    def fold(self) -> None:
        """Folds the attention, and LayerScale into the linear layers before it."""
        self.attn.fold()
        if self.gamma1 is not None:
            fold_scale(self.attn.proj, self.gamma1)
            fold_scale(self.mlp.fc2, self.gamma2)
            self.gamma1 = self.gamma2 = None


class ScopeViTBlock(nn.Module):
    """An MSSA layer and a GSDA layer, (B, H, W, C) to (B, H, W, C).

    Args:
        mssa: Layer around `MultiScaleSelfAttention`.
        gsda: Layer around `GlobalScaleDilatedAttention`.
        with_cp: Whether to recompute activations in the backward pass.
    """

    def __init__(
        self, mssa: TransformerLayer, gsda: TransformerLayer, with_cp: bool = False
    ) -> None:
        super().__init__()
        self.mssa = mssa
        self.gsda = gsda
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.mssa, self.gsda):
            if self.with_cp and x.requires_grad:
                # A compiled graph updates running statistics once, however often it recomputes.
                is_compiling = torch.compiler.is_compiling()
                contexts = (
                    {} if is_compiling else {'context_fn': partial(recompute_contexts, layer)}
                )
                x = checkpoint(layer, x, use_reentrant=False, **contexts)
            else:
                x = layer(x)
        return x

    def fold(self) -> None:
        """Folds both layers."""
        self.mssa.fold()
        self.gsda.fold()


def recompute_contexts(module: nn.Module) -> tuple:
    """Contexts of a checkpointed forward pass and of its recomputation."""
    return nullcontext(), keep_running_stats(module)


@contextmanager
def keep_running_stats(module: nn.Module) -> Iterator[None]:
    """Keeps a recomputed forward pass from counting its batch in the running stats again."""
    norms = [
        m
        for m in module.modules()
        if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    # Without tracking, a norm would save fewer tensors than the checkpoint expects of it.
    before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, num_batches in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(num_batches)


def patch_embedding(in_dims: int, out_dims: int, norm_cfg: dict, is_stem: bool) -> nn.Sequential:
    """Halves the sides of a map, those of the image (`is_stem`) twice; n becomes ceil(n / 2)."""
    layers = []
    if is_stem:
        layers += [
            nn.Conv2d(in_dims, out_dims // 2, 3, stride=2, padding=1),
            build_norm_layer(norm_cfg, out_dims // 2)[1],
            nn.GELU(),
        ]
        in_dims = out_dims // 2
    layers += [
        nn.Conv2d(in_dims, out_dims, 3, stride=2, padding=1),
        build_norm_layer(norm_cfg, out_dims)[1],
    ]
    return nn.Sequential(*layers)


class ScopeViTStage(nn.Module):
    """Patch embedding, blocks, norm; (B, C', H', W') to (B, C, H, W)."""

    def __init__(
        self, patch_embed: nn.Module, blocks: Sequence[nn.Module], norm: nn.Module
    ) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        x = self.blocks(x)
        return self.norm(x.permute(0, 3, 1, 2))  # (B, H, W, C) -> (B, C, H, W)

    def fold(self) -> None:
        """Folds the blocks and the norms of the patch embedding.

        The norm of the stage stays: before it there is a sum, and the convolution that follows
        pads with zeros, to which the norm's shift would have to be added at the border.
        """
        layers = self.patch_embed
        for i, layer in enumerate(layers):
            if isinstance(layer, nn.Conv2d):
                layers[i], layers[i + 1] = fold_batch_norm(layer, layers[i + 1])
        for block in self.blocks:
            block.fold()


@MODELS.register_module()
class ScopeViT(BaseModule):
    """Backbone of ScopeViT for every task.

    `Paper <https://doi.org/10.1016/j.patcog.2024.110470>`_. The layers are those of the authors'
    release: with a classifier of 1000 classes, xtiny, tiny and small have 5.287 M, 8.007 M and
    18.162 M parameters (the paper says 7.4 M of tiny).

    Args:
        arch: 'xtiny', 'tiny', 'small' (or 'xt', 't', 's'), or a dict with the keys
            of :data:`ARCHS`' rows: `embed_dims`, `depths`, `num_heads`, `kv_strides`,
            `head_splits` (four entries each) and `grid_size`. Defaults to 'tiny'.
        in_channels: Channels of the image. Defaults to 3.
        out_indices: Stages whose maps are returned, 0 to 3, or -4 to -1
            counted from the last. Stages behind the last of them are not built. Defaults to all.
        drop_path_rate: Stochastic depth of the last block; the rates rise linearly from
            0 at the first. Defaults to 0.
        mlp_ratio: Width of the MLPs over the channels. Defaults to 4.
        norm_cfg: Norm after convolutions and stages: BN, SyncBN or GN (with
            `num_groups`). Defaults to `dict(type='BN')`.
        layer_scale_init_value: Start of the LayerScale vectors; 0 leaves them out.
            Defaults to 1e-6.
        frozen_stages: How many of the first stages are kept as they are, in eval mode and
            without gradient; -1 or 0 for none. Defaults to -1.
        norm_eval: Keep batch norms in eval mode while training. Defaults to False.
        with_cp: Activation checkpointing: the layers' activations are computed again in
            the backward pass, with the same result and less memory. Defaults to False.
        deploy: Build the form that `switch_to_deploy` makes, for inference and for weights
            saved in that form. Defaults to False.
        init_cfg: MMEngine's initialisation, e.g.
            `dict(type='Pretrained', checkpoint=..., prefix='backbone.')`. By default the
            authors': see :func:`init_layer`.

    Raises:
        TypeError: On an argument of the wrong type or an unknown key of `arch`.
        ValueError: On a value that is not allowed, in the constructor; in `forward` on an image
            with a side below 32 pixels.
        RuntimeError: On training in the form for inference, and on weights of the other form.
    """

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        mlp_ratio: float = 4.0,
        norm_cfg: dict | None = None,
        layer_scale_init_value: float = 1e-6,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        deploy: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.arch = resolve_arch(arch)
        self.embed_dims = tuple(self.arch['embed_dims'])
        num_stages = len(self.arch['depths'])
        check_number('in_channels', in_channels, int, low=1)
        check_number('drop_path_rate', drop_path_rate, float, low=0, below=1)
        check_number('mlp_ratio', mlp_ratio, float, above=0)
        check_number('layer_scale_init_value', layer_scale_init_value, float, low=0)
        check_number('frozen_stages', frozen_stages, int, low=-1, below=num_stages + 1)
        check_flag('norm_eval', norm_eval)
        check_flag('with_cp', with_cp)
        check_flag('deploy', deploy)
        norm_cfg = resolve_norm_cfg(norm_cfg, self.embed_dims)
        self.out_indices = resolve_out_indices(out_indices, num_stages)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.deploy = False

        depths = self.arch['depths']
        # Not linspace: its float32 rounding would differ from the recipe's rates.
        steps = max(sum(depths) - 1, 1)
        rates = iter([drop_path_rate * i / steps for i in range(sum(depths))])
        stages = []
        for i in range(self.out_indices[-1] + 1):
            dims, num_heads = self.embed_dims[i], self.arch['num_heads'][i]
            blocks = []
            for _ in range(depths[i]):
                make_layer = partial(
                    TransformerLayer,
                    dims=dims,
                    mlp_ratio=mlp_ratio,
                    drop_path_rate=next(rates),
                    layer_scale_init_value=layer_scale_init_value,
                )
                mssa = MultiScaleSelfAttention(
                    dims,
                    num_heads,
                    self.arch['kv_strides'][i],
                    self.arch['head_splits'][i],
                    norm_cfg,
                )
                gsda = GlobalScaleDilatedAttention(dims, num_heads, self.arch['grid_size'])
                blocks.append(ScopeViTBlock(make_layer(mssa), make_layer(gsda), with_cp))
            in_dims = self.embed_dims[i - 1] if i else in_channels
            stages.append(
                ScopeViTStage(
                    patch_embedding(in_dims, dims, norm_cfg, is_stem=i == 0),
                    blocks,
                    build_norm_layer(norm_cfg, dims)[1],
                )
            )
        self.stages = nn.ModuleList(stages)
        self.apply(init_layer)
        self._freeze_stages()
        if deploy:
            self.eval()
            self.switch_to_deploy()

    def _freeze_stages(self) -> None:
        for stage in self.stages[: max(self.frozen_stages, 0)]:
            stage.eval()
            stage.requires_grad_(False)

    def train(self, mode: bool = True) -> 'ScopeViT':
        """Sets the mode, but leaves frozen stages and, with `norm_eval`, batch norms in eval."""
        if mode and self.deploy:
            raise RuntimeError(
                'a ScopeViT switched to deploy cannot be trained; train one with deploy=False and '
                'call switch_to_deploy() after it'
            )
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def switch_to_deploy(self, test_cfg: dict | None = None) -> None:
        """Folds, for inference, what is constant then; the outputs stay the same.

        Batch norms go into the convolutions before them, LayerScale into the linear layers before
        it, and GSDA's bias becomes a constant. The norms of the stages stay, for no layer beside
        them could take them up exactly, and so do group norms. A second call changes nothing.

        Args:
            test_cfg: What MMPose hands to every part of its estimators here;
                nothing in the backbone depends on it.

        Raises:
            RuntimeError: In training mode.
        """
        if any(module.training for module in self.modules()):
            raise RuntimeError(
                'switch_to_deploy() needs a ScopeViT in eval mode; call eval() before it'
            )
        if self.deploy:
            return
        for stage in self.stages:
            stage.fold()
        self.eval()  # also the layers that took the others' place
        self.requires_grad_(False)
        self.deploy = True

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        is_deployed = any(
            name.startswith(prefix) and name.endswith('.rel_pos.constant') for name in state_dict
        )
        is_trained = any(
            name.startswith(prefix) and name.endswith('.rel_pos.fc1.weight') for name in state_dict
        )
        if is_deployed and not self.deploy:
            raise RuntimeError(
                'these weights are of a ScopeViT switched to deploy; build the backbone with '
                'deploy=True to load them'
            )
        if is_trained and self.deploy:
            raise RuntimeError(
                'these weights are of a ScopeViT not switched to deploy; load them with '
                'deploy=False and call switch_to_deploy() after it'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the maps of the stages in `out_indices`.

        Args:
            x: Images, (B, in_channels, H, W); H and W are at least 32, of any size.

        Returns:
            Maps (B, C, ceil(H / s), ceil(W / s)) at strides s = 4, 8, 16, 32.
        """
        if min(x.shape[-2:]) < MIN_INPUT_SIZE:
            raise ValueError(
                f'ScopeViT needs images of at least {MIN_INPUT_SIZE}x{MIN_INPUT_SIZE} pixels, '
                f'but got {x.shape[-2]}x{x.shape[-1]} (height x width)'
            )
        x = x.contiguous(memory_format=torch.channels_last)
        outs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


def init_layer(module: nn.Module) -> None:
    """Initialises one layer as the authors do.

    Linear weights are drawn from a truncated normal of std 0.02, convolutions from a normal of std
    sqrt(2 / fan_out) with fan_out = k * k * out / groups; biases are 0, norms keep 1 and 0.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
        nn.init.zeros_(module.bias)


def resolve_arch(arch: str | dict) -> dict:
    """Returns the row of sizes that `arch` names, or `arch` itself once it is found sound."""
    if isinstance(arch, str):
        name = ARCH_ALIASES.get(arch, arch)
        if name not in ARCHS:
            allowed = ', '.join([*ARCHS, *ARCH_ALIASES])
            raise ValueError(f'arch must be one of {allowed}, or a dict of sizes, not {arch!r}')
        return dict(ARCHS[name])
    if not isinstance(arch, dict):
        raise TypeError(f'arch must be a str or a dict of sizes, not {type(arch).__name__}')
    keys = set(ARCHS['tiny'])
    if set(arch) != keys:
        raise TypeError(
            f'arch as a dict needs exactly the keys {sorted(keys)}; '
            f'missing: {sorted(keys - set(arch))}, unknown: {sorted(set(arch) - keys)}'
        )
    check_number("arch['grid_size']", arch['grid_size'], int, low=1)
    for key in sorted(keys - {'grid_size'}):
        if not isinstance(arch[key], Sequence) or len(arch[key]) != 4:
            raise ValueError(f'arch[{key!r}] must have 4 entries, one a stage, not {arch[key]}')
    for dims, heads, depth, stride, split in zip(
        *(arch[k] for k in ('embed_dims', 'num_heads', 'depths', 'kv_strides', 'head_splits'))
    ):
        check_number("an entry of arch['depths']", depth, int, low=1)
        check_number("an entry of arch['num_heads']", heads, int, low=1)
        check_number("an entry of arch['kv_strides']", stride, int, low=1)
        check_number("an entry of arch['embed_dims']", dims, int, low=2)
        if dims % heads or dims % 2:
            raise ValueError(
                f"arch['embed_dims'] must be even multiples of arch['num_heads'], not {dims} for "
                f'{heads} heads'
            )
        is_split = isinstance(split, Sequence) and len(split) == len(KERNEL_SIZES)
        is_split = is_split and all(isinstance(n, int) and n >= 0 for n in split)
        if not is_split or sum(split) != heads:
            raise ValueError(
                f"an entry of arch['head_splits'] must be (large, medium, small) heads that add up "
                f'to the {heads} heads of its stage, not {split}'
            )
    return dict(arch)


def resolve_out_indices(out_indices: int | Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Returns ascending stage indices from 0."""
    given = [out_indices] if isinstance(out_indices, int) else out_indices
    allowed = (
        f'out_indices must be ascending stage indices from 0 to {num_stages - 1} '
        f'(or -{num_stages} to -1), not {out_indices!r}'
    )
    if not isinstance(given, Sequence) or not all(type(i) is int for i in given):
        raise TypeError(allowed)
    indices = [i + num_stages if i < 0 else i for i in given]
    in_range = all(0 <= i < num_stages for i in indices)
    if not indices or not in_range or indices != sorted(set(indices)):
        raise ValueError(allowed)
    return tuple(indices)


def resolve_norm_cfg(norm_cfg: dict | None, embed_dims: Sequence[int]) -> dict:
    """Returns a copy of `norm_cfg`, by default batch norm, once it is found sound."""
    if norm_cfg is None:
        return dict(type='BN')
    allowed = ('BN', 'SyncBN', 'GN')
    if not isinstance(norm_cfg, dict):
        raise TypeError(f"norm_cfg must be a dict such as dict(type='BN'), not {norm_cfg!r}")
    if norm_cfg.get('type') not in allowed:
        raise ValueError(
            f"norm_cfg['type'] must be one of {', '.join(allowed)}, not {norm_cfg.get('type')!r}"
        )
    if norm_cfg['type'] == 'GN':
        groups, narrowest = norm_cfg.get('num_groups'), embed_dims[0] // 2  # within the stem
        widths = [narrowest, *embed_dims]
        if type(groups) is not int or groups < 1 or any(width % groups for width in widths):
            raise ValueError(
                f"norm_cfg of type 'GN' needs 'num_groups' that divides all of {widths}, "
                f'not {groups!r}'
            )
    return dict(norm_cfg)


def check_flag(name: str, value: bool) -> None:
    """Raises a TypeError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f'{name} must be True or False, not {value!r}')


def check_number(
    name: str,
    value: float,
    kind: type,
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Raises unless `value` is a number of `kind` with low <= value, above < value < below."""
    kinds = (int, float) if kind is float else (kind,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f'{name} must be of type {kind.__name__}, not {value!r}')
    bounds = [(low, '>=', operator.ge), (above, '>', operator.gt), (below, '<', operator.lt)]
    bounds = [(bound, sign, holds) for bound, sign, holds in bounds if bound is not None]
    if not all(holds(value, bound) for bound, _, holds in bounds):
        wanted = ' and '.join(f'{sign} {bound}' for bound, sign, _ in bounds)
        raise ValueError(f'{name} must be {wanted}, not {value!r}')
