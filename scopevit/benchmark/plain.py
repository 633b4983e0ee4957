"""ScopeViT as one writes it at first: the reference that the backbone's speed is measured against.

It computes what :class:`scopevit.models.ScopeViT` computes, with the same names of the weights, by
the means that published code of such networks uses: softmax attention from two matrix products with
the whole attention matrix between them, maps as (B, C, H, W) and tokens as (B, N, C) with a copy
from one to the other, and a bias that is computed at every forward pass. It is for measurements
alone: there is no stochastic depth, no freezing and no choice of norms or outputs.
"""

import math
from collections import OrderedDict
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scopevit.models.position_bias import DROPOUT, HIDDEN_DIMS
from scopevit.models.sizes import KERNEL_SIZES, resolve_arch


def to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, C, N) -> (B, N, C)


def to_map(x: Tensor, height: int, width: int) -> Tensor:
    # (B, N, C) -> (B, C, N) -> (B, C, H, W)
    return x.transpose(1, 2).reshape(x.shape[0], -1, height, width)


class PositionEncoding(nn.Module):
    """Inverted residual; (B, C, H, W) to (B, C, H, W)."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        hidden = 4 * dims
        self.expand = nn.Conv2d(dims, hidden, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, dims, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(dims)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.norm1(self.expand(x)))
        out = self.act(self.norm2(self.depthwise(out)))
        return x + self.norm3(self.project(out))


class PlainMSSA(nn.Module):
    """Multi-scale self-attention with an attention matrix of tokens x keys for each head."""

    def __init__(self, dims: int, heads: int, stride: int, head_split: tuple[int, ...]) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dims // heads) ** -0.5
        self.position_encoding = PositionEncoding(dims)
        self.split_sizes = [dims // heads * n for n in head_split if n]
        kernels = [kernel for kernel, n in zip(KERNEL_SIZES, head_split) if n]
        self.scales = nn.ModuleList(
            nn.Conv2d(n, n, k, stride, (stride + k - 2) // 2, groups=n, bias=False)
            for n, k in zip(self.split_sizes, kernels)
        )
        self.query = nn.Linear(dims, dims, bias=False)
        self.key_value = nn.Linear(dims, 2 * dims, bias=False)
        self.proj = nn.Linear(dims, dims)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """(B, N, C) to (B, N, C), N = height x width."""
        batch, tokens, dims = x.shape
        grid = self.position_encoding(to_map(x, height, width))
        parts = grid.split(self.split_sizes, dim=1)
        kv = torch.cat([conv(part) for conv, part in zip(self.scales, parts)], dim=1)
        # (B, N, C) -> (B, N, heads, C / heads) -> (B, heads, N, C / heads)
        q = self.query(to_tokens(grid)).reshape(batch, tokens, self.heads, -1).transpose(1, 2)
        # (B, n, 2C) -> (B, n, 2, heads, C / heads) -> (2, B, heads, n, C / heads)
        kv = self.key_value(to_tokens(kv)).reshape(batch, -1, 2, self.heads, dims // self.heads)
        k, v = kv.permute(2, 0, 3, 1, 4)
        attn = (q @ k.transpose(-2, -1)) * self.scale  # (B, heads, N, n)
        out = attn.softmax(dim=-1) @ v
        # (B, heads, N, C / heads) -> (B, N, heads, C / heads) -> (B, N, C)
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, dims))


class PlainRelPos(nn.Module):
    """Bias for all pairs of slots of a full group, by the MLP of their offsets."""

    def __init__(self, heads: int, grid_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2, HIDDEN_DIMS)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(DROPOUT)
        self.fc2 = nn.Linear(HIDDEN_DIMS, heads)
        side = torch.arange(1.0 - grid_size, grid_size)
        offsets = torch.stack(torch.meshgrid(side, side, indexing='ij'), dim=-1)
        # (2G - 1, 2G - 1, 2) -> ((2G - 1)^2, 2)
        table = (offsets.sign() * offsets.abs().log1p()).flatten(0, 1)
        self.register_buffer('table', table, persistent=False)
        self.grid_size = grid_size

    def forward(self, rows: int, columns: int) -> Tensor:
        """Returns the bias (heads, S, S) of groups of S = rows x columns slots."""
        bias = self.fc2(self.drop(self.act(self.fc1(self.table))))  # ((2G - 1)^2, heads)
        a = torch.arange(rows, device=bias.device).repeat_interleave(columns)
        b = torch.arange(columns, device=bias.device).repeat(rows)
        shift, side = self.grid_size - 1, 2 * self.grid_size - 1
        index = (a[:, None] - a + shift) * side + b[:, None] - b + shift  # (S, S)
        return bias[index].permute(2, 0, 1)  # (S, S, heads) -> (heads, S, S)


class PlainGSDA(nn.Module):
    """Global-scale dilated attention, groups that lack tokens padded and masked."""

    def __init__(self, dims: int, heads: int, grid_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.grid_size = grid_size
        self.scale = (dims // heads) ** -0.5
        self.qkv = nn.Linear(dims, 3 * dims, bias=False)
        self.rel_pos = PlainRelPos(heads, grid_size)
        self.proj = nn.Linear(dims, dims)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """(B, N, C) to (B, N, C), N = height x width."""
        batch, _, dims = x.shape
        dy, dx = math.ceil(height / self.grid_size), math.ceil(width / self.grid_size)
        rows, columns = math.ceil(height / dy), math.ceil(width / dx)
        padding = (0, columns * dx - width, 0, rows * dy - height)
        x = x.reshape(batch, height, width, dims)
        if any(padding):
            x = F.pad(x, (0, 0, *padding))
        x = self.group(x, dy, dx)
        groups, slots, _ = x.shape
        # (B', S, 3C) -> (B', S, 3, heads, C / heads) -> (3, B', heads, S, C / heads)
        qkv = self.qkv(x).reshape(groups, slots, 3, self.heads, dims // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attn = (q @ k.transpose(-2, -1)) * self.scale + self.rel_pos(rows, columns)
        if any(padding):
            real = x.new_ones(1, height, width, 1)
            real = self.group(F.pad(real, (0, 0, *padding)), dy, dx)  # (groups of an image, S, 1)
            missing = (real[..., 0] == 0).repeat(batch, 1)[:, None, None]  # (B', 1, 1, S)
            attn = attn.masked_fill(missing, -math.inf)
        out = attn.softmax(dim=-1) @ v
        # (B', heads, S, C / heads) -> (B', S, heads, C / heads) -> (B', S, C)
        out = self.proj(out.transpose(1, 2).reshape(groups, slots, dims))
        # (B', S, C) -> (B, dy, dx, rows, columns, C) -> (B, rows, dy, columns, dx, C)
        out = out.reshape(batch, dy, dx, rows, columns, dims).permute(0, 3, 1, 4, 2, 5)
        out = out.reshape(batch, rows * dy, columns * dx, dims)[:, :height, :width]
        return out.reshape(batch, height * width, dims)

    @staticmethod
    def group(x: Tensor, dy: int, dx: int) -> Tensor:
        """(B, rows * dy, columns * dx, C) to (B * dy * dx, rows * columns, C)."""
        batch, height, width, dims = x.shape
        x = x.reshape(batch, height // dy, dy, width // dx, dx, dims)
        # (B, rows, dy, columns, dx, C) -> (B, dy, dx, rows, columns, C) -> (B', S, C)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(batch * dy * dx, -1, dims)


class PlainLayer(nn.Module):
    """Pre-norm attention and MLP, each with LayerScale; (B, N, C) to (B, N, C)."""

    def __init__(self, attn: nn.Module, dims: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dims)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dims)
        mlp = dict(fc1=nn.Linear(dims, 4 * dims), act=nn.GELU(), fc2=nn.Linear(4 * dims, dims))
        self.mlp = nn.Sequential(OrderedDict(mlp))
        self.gamma1 = nn.Parameter(torch.full((dims,), 1e-6))
        self.gamma2 = nn.Parameter(torch.full((dims,), 1e-6))

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = x + self.gamma1 * self.attn(self.norm1(x), height, width)
        return x + self.gamma2 * self.mlp(self.norm2(x))


class PlainStage(nn.Module):
    """Patch embedding by strided convolutions, blocks, norm; (B, C', H', W') to (B, C, H, W)."""

    def __init__(self, widths: list[int], blocks: list[nn.ModuleDict]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for in_dims, dims in pairwise(widths):
            layers += [nn.Conv2d(in_dims, dims, 3, 2, 1), nn.BatchNorm2d(dims), nn.GELU()]
        self.patch_embed = nn.Sequential(*layers[:-1])
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.BatchNorm2d(widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        height, width = x.shape[-2:]
        x = to_tokens(x)
        for block in self.blocks:
            for layer in block.children():
                x = layer(x, height, width)
        return self.norm(to_map(x, height, width))


class PlainScopeViT(nn.Module):
    """ScopeViT with explicit attention; arguments and weights are of `models.ScopeViT`."""

    def __init__(self, arch: str | dict = 'tiny') -> None:
        super().__init__()
        sizes = resolve_arch(arch)
        stages, in_dims = [], 3
        for i, dims in enumerate(sizes['embed_dims']):
            heads, blocks = sizes['num_heads'][i], []
            for _ in range(sizes['depths'][i]):
                mssa = PlainMSSA(dims, heads, sizes['kv_strides'][i], sizes['head_splits'][i])
                gsda = PlainGSDA(dims, heads, sizes['grid_size'])
                layers = dict(mssa=PlainLayer(mssa, dims), gsda=PlainLayer(gsda, dims))
                blocks.append(nn.ModuleDict(layers))
            stem = [dims // 2] if i == 0 else []
            stages.append(PlainStage([in_dims, *stem, dims], blocks))
            in_dims = dims
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) to maps (B, C, ceil(H / s), ceil(W / s)), s = 4, 8, 16, 32."""
        outs = []
        for stage in self.stages:
            x = stage(x)
            outs.append(x)
        return tuple(outs)
