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


class Mlp(nn.Module):
    """Two linear layers with a GELU between; (..., C) to (..., C)."""

    def __init__(self, dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dims, hidden_dims)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


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
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.norm1(self.expand(x)))
        out = self.act(self.norm2(self.depthwise(out)))
        return x + self.norm3(self.project(out))


class MultiScaleSelfAttention(nn.Module):
    """MSSA: attention whose heads see keys of different receptive fields.

    The map's channels are split among the large, medium and small heads; each part goes through a
    depth-wise convolution of its own kernel before it becomes keys and values.

    Args:
        dims (int): Channels C.
        num_heads (int): Heads; C is a multiple of it.
        kv_stride (int): Stride of the key/value convolutions.
        head_split (Sequence[int]): Large, medium and small heads, `num_heads` in all.
        norm_cfg (dict): Norm of the position encoding.
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
        self.query = nn.Linear(dims, dims, bias=False)
        self.key_value = nn.Linear(dims, 2 * dims, bias=False)
        self.proj = nn.Linear(dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Attends over the whole map.

        Args:
            x (Tensor): Tokens, (B, H, W, C).

        Returns:
            Tensor: Tokens, (B, H, W, C).
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


class RelativePositionBias(nn.Module):
    """Bias of a GSDA group's logits: a small MLP of the signed logarithmic slot offsets."""

    def __init__(self, num_heads: int, grid_size: int) -> None:
        super().__init__()
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

    def forward(self, rows: int, columns: int) -> Tensor:
        """Makes the bias of a group of `rows` x `columns` slots.

        Returns:
            Tensor: (heads, rows, columns, rows, columns), queries before keys.
        """
        table = self.fc2(self.drop(self.act(self.fc1(self.offsets))))  # (2G - 1, 2G - 1, heads)
        dy, dx = self.index[:rows, :rows], self.index[:columns, :columns]
        # (a, a', b, b', heads) -> (heads, a, b, a', b')
        return table[dy[:, :, None, None], dx[None, None, :, :]].permute(4, 0, 2, 1, 3)


def dilated_spans(size: int, grid_size: int) -> tuple[int, list[tuple[slice, int]]]:
    """Splits one side of a map into its dilated groups.

    With dilation d, group i holds the positions i, i + d, i + 2d, ... The first groups may hold
    one position more than the others, so that there are at most two kinds of group.

    Args:
        size (int): Positions along the side.
        grid_size (int): The most positions that a group may hold.

    Returns:
        tuple[int, list[tuple[slice, int]]]: The dilation, and for each kind of group which groups
        are of the kind and how many positions each of them holds.
    """
    dilation = math.ceil(size / grid_size)
    slots = math.ceil(size / dilation)
    full = size - (slots - 1) * dilation  # groups that reach into the last, partial run
    spans = [(slice(0, full), slots)]
    if full < dilation:
        spans.append((slice(full, dilation), slots - 1))
    return dilation, spans


class GlobalScaleDilatedAttention(nn.Module):
    """GSDA: attention inside groups of tokens that lie a dilation apart, over the whole map.

    Args:
        dims (int): Channels C.
        num_heads (int): Heads; C is a multiple of it.
        grid_size (int): The most tokens that a group holds along a side.
    """

    def __init__(self, dims: int, num_heads: int, grid_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.grid_size = grid_size
        self.qkv = nn.Linear(dims, 3 * dims, bias=False)
        self.rel_pos = RelativePositionBias(num_heads, grid_size)
        self.proj = nn.Linear(dims, dims)

    def attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """Attends inside each group.

        Args:
            qkv (Tensor): (B, rows, groups y, columns, groups x, 3C): rows x columns slots a group.
            bias (Tensor): (heads, R, K, R, K) with R >= rows and K >= columns.

        Returns:
            Tensor: (B, rows, groups y, columns, groups x, C).
        """
        batch, rows, groups_y, columns, groups_x, _ = qkv.shape
        slots = rows * columns
        # (B, rows, gy, columns, gx, 3C) -> (B, gy, gx, rows, columns, 3C)
        #   -> (B', S, 3, heads, C / heads) -> (3, B', heads, S, C / heads)
        qkv = qkv.permute(0, 2, 4, 1, 3, 5)
        qkv = qkv.reshape(batch * groups_y * groups_x, slots, 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        # The slots this kind of group has: (heads, ...) -> (heads, S, S)
        bias = bias[:, :rows, :columns, :rows, :columns].reshape(-1, slots, slots)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype)[None])
        # (B', heads, S, C / heads) -> (B', S, heads, C / heads) -> (B, gy, gx, rows, columns, C)
        #   -> (B, rows, gy, columns, gx, C)
        out = out.transpose(1, 2).reshape(batch, groups_y, groups_x, rows, columns, -1)
        return out.permute(0, 3, 1, 4, 2, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Attends within the dilated groups.

        Args:
            x (Tensor): Tokens, (B, H, W, C), of any H and W.

        Returns:
            Tensor: Tokens, (B, H, W, C).
        """
        batch, height, width, dims = x.shape
        dilation_y, spans_y = dilated_spans(height, self.grid_size)
        dilation_x, spans_x = dilated_spans(width, self.grid_size)
        rows, columns = spans_y[0][1], spans_x[0][1]
        bias = self.rel_pos(rows, columns)
        qkv = self.qkv(x)  # (B, H, W, 3C)
        # Room for the slots that only some groups fill; it is cut off again below and no group
        # that lacks the slot ever reads it.
        pad_y, pad_x = rows * dilation_y - height, columns * dilation_x - width
        if pad_y or pad_x:
            qkv = F.pad(qkv, (0, 0, 0, pad_x, 0, pad_y))
        # (B, H, W, 3C) -> (B, rows, dy, columns, dx, 3C)
        qkv = qkv.reshape(batch, rows, dilation_y, columns, dilation_x, 3 * dims)
        if len(spans_y) == len(spans_x) == 1:
            out = self.attend(qkv, bias)
        else:
            out = qkv.new_zeros(batch, rows, dilation_y, columns, dilation_x, dims)
            for groups_y, slots_y in spans_y:
                for groups_x, slots_x in spans_x:
                    kind = (slice(None), slice(slots_y), groups_y, slice(slots_x), groups_x)
                    out[kind] = self.attend(qkv[kind], bias)
        # (B, rows, dy, columns, dx, C) -> (B, H, W, C)
        out = out.reshape(batch, rows * dilation_y, columns * dilation_x, dims)
        return self.proj(out[:, :height, :width])


class TransformerLayer(nn.Module):
    """Pre-norm attention and MLP, each with LayerScale and stochastic depth.

    Args:
        attn (nn.Module): Attention on (B, H, W, C).
        dims (int): Channels C.
        mlp_ratio (float): Width of the MLP over C.
        drop_path_rate (float): Chance that a sample skips a branch, in training.
        layer_scale_init_value (float): Start of the LayerScale vectors; 0 for none.
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


class ScopeViTBlock(nn.Module):
    """An MSSA layer and a GSDA layer, (B, H, W, C) to (B, H, W, C).

    Args:
        mssa (TransformerLayer): Layer around `MultiScaleSelfAttention`.
        gsda (TransformerLayer): Layer around `GlobalScaleDilatedAttention`.
        with_cp (bool): Whether to recompute activations in the backward pass.
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
                contexts = partial(recompute_contexts, layer)
                x = checkpoint(layer, x, use_reentrant=False, context_fn=contexts)
            else:
                x = layer(x)
        return x


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


@MODELS.register_module()
class ScopeViT(BaseModule):
    """Backbone of ScopeViT for every task.

    `Paper <https://doi.org/10.1016/j.patcog.2024.110470>`_. The layers are those of the authors'
    release: with a classifier of 1000 classes, xtiny, tiny and small have 5.287 M, 8.007 M and
    18.162 M parameters (the paper says 7.4 M of tiny).

    Args:
        arch (str | dict): 'xtiny', 'tiny', 'small' (or 'xt', 't', 's'), or a dict with the keys
            of :data:`ARCHS`' rows: `embed_dims`, `depths`, `num_heads`, `kv_strides`,
            `head_splits` (four entries each) and `grid_size`. Defaults to 'tiny'.
        in_channels (int): Channels of the image. Defaults to 3.
        out_indices (int | Sequence[int]): Stages whose maps are returned, 0 to 3, or -4 to -1
            counted from the last. Stages behind the last of them are not built. Defaults to all.
        drop_path_rate (float): Stochastic depth of the last block; the rates rise linearly from
            0 at the first. Defaults to 0.
        mlp_ratio (float): Width of the MLPs over the channels. Defaults to 4.
        norm_cfg (dict): Norm after convolutions and stages: BN, SyncBN or GN (with
            `num_groups`). Defaults to `dict(type='BN')`.
        layer_scale_init_value (float): Start of the LayerScale vectors; 0 leaves them out.
            Defaults to 1e-6.
        frozen_stages (int): How many of the first stages are kept as they are, in eval mode and
            without gradient; -1 or 0 for none. Defaults to -1.
        norm_eval (bool): Keep batch norms in eval mode while training. Defaults to False.
        with_cp (bool): Activation checkpointing: the layers' activations are computed again in
            the backward pass, with the same result and less memory. Defaults to False.
        init_cfg (dict | list[dict], optional): MMEngine's initialisation, e.g.
            `dict(type='Pretrained', checkpoint=..., prefix='backbone.')`. By default the
            authors': see :func:`init_layer`.

    Raises:
        TypeError: On an argument of the wrong type or an unknown key of `arch`.
        ValueError: On a value that is not allowed, in the constructor; in `forward` on an image
            with a side below 32 pixels.
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
        norm_cfg = resolve_norm_cfg(norm_cfg, self.embed_dims)
        self.out_indices = resolve_out_indices(out_indices, num_stages)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

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

    def _freeze_stages(self) -> None:
        for stage in self.stages[: max(self.frozen_stages, 0)]:
            stage.eval()
            stage.requires_grad_(False)

    def train(self, mode: bool = True) -> 'ScopeViT':
        """Sets the mode, but leaves frozen stages and, with `norm_eval`, batch norms in eval."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the maps of the stages in `out_indices`.

        Args:
            x (Tensor): Images, (B, in_channels, H, W); H and W are at least 32, of any size.

        Returns:
            tuple[Tensor, ...]: Maps (B, C, ceil(H / s), ceil(W / s)) at strides s = 4, 8, 16, 32.
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
