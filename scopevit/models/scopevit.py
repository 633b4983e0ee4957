"""ScopeViT: Scale-aware Vision Transformer (Pattern Recognition 2024).

Paper: https://doi.org/10.1016/j.patcog.2024.110470

Four stages at strides 4, 8, 16 and 32. A stage is a patch embedding, its blocks and a norm; a block
is a layer of Multi-Scale Self-Attention (MSSA, every head sees keys of one receptive field)
followed by a layer of Global-Scale Dilated Attention (GSDA, every token attends to at most 8x8
tokens spread over the whole map). Between the convolutions, tokens are kept as (B, H, W, C), which
is the channels-last layout of an NCHW map, so that going from one to the other copies nothing.
Heads have D = C / heads channels.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scopevit.models import checks
from scopevit.models.attention_inputs import AttentionInputs
from scopevit.models.checks import ConfigType
from scopevit.models.cpu import TokenLinear, biased_attention, in_parts, in_strips, is_pointwise
from scopevit.models.deploy import check_form, fold_batch_norms
from scopevit.models.groups import DilatedGroups
from scopevit.models.modes import compute_dtype, is_known
from scopevit.models.padded_groups import PaddedGroups
from scopevit.models.position_bias import RelativePositionBias
from scopevit.models.recompute import recomputed
from scopevit.models.sizes import KERNEL_SIZES, resolve_arch


def depthwise_conv(dims: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution of every channel by itself."""
    padding = (stride + kernel_size - 2) // 2
    return nn.Conv2d(dims, dims, kernel_size, stride, padding, groups=dims, bias=False)


class Mlp(nn.Module):
    """Two linear layers with a GELU between; (B, H, W, C) to (B, H, W, C)."""

    def __init__(self, dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = TokenLinear(dims, hidden_dims)
        self.act = nn.GELU()
        self.fc2 = TokenLinear(hidden_dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, 1)  # (B, H, W, C) -> (B * H, W, C)
        numel = x.shape[-2] * self.fc1.out_features
        return in_parts(self.apply_rows, rows, numel).reshape(x.shape)

    def apply_rows(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class ConvPositionEncoding(nn.Module):
    """Inverted residual that tells every token its surroundings; (B, C, H, W) to the same."""

    def __init__(self, dims: int, norm_cfg: ConfigType, expand_ratio: int = 4) -> None:
        super().__init__()
        hidden_dims = dims * expand_ratio
        self.expand = nn.Conv2d(dims, hidden_dims, 1, bias=False)
        self.norm1 = build_norm_layer(norm_cfg, hidden_dims)[1]
        self.depthwise = depthwise_conv(hidden_dims, 3)
        self.norm2 = build_norm_layer(norm_cfg, hidden_dims)[1]
        self.project = nn.Conv2d(hidden_dims, dims, 1, bias=False)
        self.norm3 = build_norm_layer(norm_cfg, dims)[1]
        self.act = nn.ReLU(inplace=True)  # no layer before it needs its own output afterwards

    def forward(self, x: Tensor) -> Tensor:
        if not all(is_pointwise(norm) for norm in (self.norm1, self.norm2, self.norm3)):
            return self.encode(x)
        return in_strips(self.encode, x, numel=x.shape[-1] * self.expand.out_channels, halo=1)

    def encode(self, x: Tensor) -> Tensor:
        out = self.act(self.norm1(self.expand(x)))  # (B, C, H, W) -> (B, 4C, H, W)
        out = self.act(self.norm2(self.depthwise(out)))
        return x + self.norm3(self.project(out))  # (B, 4C, H, W) -> (B, C, H, W)


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

    Attributes:
        kernel_sizes: Side of the kernel through which each head sees its keys.
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        kv_stride: int,
        head_split: Sequence[int],
        norm_cfg: ConfigType,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.kernel_sizes = [k for k, heads in zip(KERNEL_SIZES, head_split) for _ in range(heads)]
        self.position_encoding = ConvPositionEncoding(dims, norm_cfg)
        self.split_sizes = [dims // num_heads * heads for heads in head_split if heads]
        self.scales = nn.ModuleList(
            depthwise_conv(width, kernel_size, kv_stride)
            for width, kernel_size in zip(self.split_sizes, dict.fromkeys(self.kernel_sizes))
        )
        self.query = TokenLinear(dims, dims, bias=False)
        self.key_value = TokenLinear(dims, 2 * dims, bias=False)
        self.proj = TokenLinear(dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Attends over the whole map; tokens (B, H, W, C) to the same."""
        (inputs,) = self.inputs(x)
        out = F.scaled_dot_product_attention(inputs.queries, inputs.keys, inputs.values)
        # (B, heads, N, D) -> (B, N, heads, D) -> (B, H, W, C)
        return self.proj(out.transpose(1, 2).reshape(x.shape))

    def inputs(self, x: Tensor) -> list[AttentionInputs]:
        """Makes the queries, keys and values of tokens (B, H, W, C); an image is one group."""
        batch, height, width, dims = x.shape
        x = self.position_encoding(x.permute(0, 3, 1, 2))  # (B, H, W, C) -> (B, C, H, W)
        parts = x.split(self.split_sizes, dim=1)
        kv = torch.cat([conv(part) for conv, part in zip(self.scales, parts)], dim=1)
        # (B, C, H, W) -> (B, H, W, C) -> (B, N, heads, D) -> (B, heads, N, D)
        q = self.query(x.permute(0, 2, 3, 1))
        q = q.reshape(batch, height * width, self.num_heads, -1).transpose(1, 2)
        # (B, C, h, w) -> (B, h, w, 2C) -> (B, n, 2, heads, D) -> (2, B, heads, n, D)
        kv = self.key_value(kv.permute(0, 2, 3, 1))
        kv = kv.reshape(batch, -1, 2, self.num_heads, dims // self.num_heads)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        return [AttentionInputs(q, k, v)]


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
        """Attends within the dilated groups; tokens (B, H, W, C), of any H and W, to the same."""
        height, width = x.shape[1:3]
        make_groups = DilatedGroups if is_known(height, width) else PaddedGroups
        groups = make_groups(height, width, self.grid_size)
        biases = self.rel_pos(groups.kinds, compute_dtype(x))
        kinds = zip(groups.split(x), biases)
        return groups.merge(self.attend(kind, groups.mask(bias)) for kind, bias in kinds)

    def attend(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attends inside each group; (B, gy, gx, rows, columns, C) to the same.

        Args:
            x: Tokens by group.
            bias: Bias of the logits, (heads, S, S) with S = rows * columns for all groups, or one
                for each group of an image, (gy * gx * heads, S, S).
        """
        num_biases = bias.shape[0] // self.num_heads  # g: 1 or gy * gx
        groups = x.reshape(-1, num_biases, *x.shape[-3:])  # (B', g, rows, columns, C)
        numel = num_biases * bias.shape[-1] * self.qkv.out_features

        def attend_part(part: Tensor) -> Tensor:
            q, k, v = self.project(part)
            out = biased_attention(q, k, v, bias[None])
            # (B', g * heads, S, D) -> (B', g, heads, S, D) -> (B', g, rows, columns, C)
            out = out.reshape(-1, num_biases, self.num_heads, *out.shape[2:])
            return self.proj(out.transpose(2, 3).reshape(part.shape))

        return in_parts(attend_part, groups, numel).reshape(x.shape)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Makes queries, keys, values, (B', g * heads, S, D) each, of (B', g, rows, columns, C)."""
        batch, num_groups, rows, columns, dims = x.shape
        # (B', g, rows, columns, 3C) -> (B', g, S, 3, heads, D) -> (3, B', g, heads, S, D)
        by_head = 3, self.num_heads, dims // self.num_heads
        qkv = self.qkv(x).reshape(batch, num_groups, rows * columns, *by_head)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).flatten(2, 3).unbind(0)
        return q, k, v

    def inputs(self, x: Tensor) -> list[AttentionInputs]:
        """Makes the queries, keys and values of tokens (B, H, W, C), for each kind of group."""
        batch, height, width, _ = x.shape
        groups = DilatedGroups(height, width, self.grid_size)
        tokens = torch.arange(height * width, device=x.device).reshape(1, height, width, 1)
        inputs = []
        for kind, where, bias in zip(
            groups.split(x),
            groups.split(tokens.expand(batch, -1, -1, -1)),
            self.rel_pos(groups.kinds, compute_dtype(x)),
        ):
            q, k, v = self.project(kind.reshape(-1, 1, *kind.shape[-3:]))
            inputs.append(AttentionInputs(q, k, v, bias, where.reshape(len(q), -1)))
        return inputs


class TransformerLayer(nn.Module):
    """Pre-norm attention and MLP, each with LayerScale and stochastic depth.

    (B, H, W, C) to (B, H, W, C). LayerScale starts at `scale`; 0 leaves it out.
    """

    def __init__(
        self, attn: nn.Module, dims: int, mlp_ratio: float, drop_path_rate: float, scale: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dims)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dims)
        self.mlp = Mlp(dims, int(dims * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)
        self.gamma1 = nn.Parameter(scale * torch.ones(dims)) if scale else None
        self.gamma2 = nn.Parameter(scale * torch.ones(dims)) if scale else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.add_branch(x, self.attn(self.norm1(x)), self.gamma1)
        return self.add_branch(x, self.mlp(self.norm2(x)), self.gamma2)

    def add_branch(self, x: Tensor, branch: Tensor, gamma: Tensor | None) -> Tensor:
        branch = self.drop_path(branch)
        return x + branch if gamma is None else torch.addcmul(x, branch, gamma)


class ScopeViTBlock(nn.Module):
    """An MSSA layer and a GSDA layer, (B, H, W, C) to (B, H, W, C); see `with_cp` of ScopeViT."""

    def __init__(self, mssa: TransformerLayer, gsda: TransformerLayer, with_cp: bool) -> None:
        super().__init__()
        self.mssa = mssa
        self.gsda = gsda
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.mssa, self.gsda):
            x = recomputed(layer, x) if self.with_cp and x.requires_grad else layer(x)
        return x


def patch_embedding(widths: Sequence[int], norm_cfg: ConfigType) -> nn.Sequential:
    """Convolutions from width to width that each halve the sides of a map, n to ceil(n / 2)."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.GELU()] if layers else []
        layers.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
        layers.append(build_norm_layer(norm_cfg, after)[1])
    return nn.Sequential(*layers)


class ScopeViTStage(nn.Module):
    """Patch embedding, blocks, norm; (B, C', H', W') to (B, C, H, W)."""

    def __init__(self, patch_embed: nn.Module, blocks: list[nn.Module], norm: nn.Module) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C)
        x = self.blocks(x)
        return self.norm(x.permute(0, 3, 1, 2))  # (B, H, W, C) -> (B, C, H, W)


@MODELS.register_module(force=True)  # in place of scopevit.build_backbone
class ScopeViT(BaseModule):
    """Backbone of ScopeViT for every task.

    The layers are those of the authors' release: with a classifier of 1000 classes, xtiny, tiny and
    small have 5.287 M, 8.007 M and 18.162 M parameters (the paper says 7.4 M of tiny).

    Args:
        arch: 'xtiny', 'tiny', 'small' (or 'xt', 't', 's'), or a dict with the keys of a row of
            :data:`scopevit.models.sizes.ARCHS`.
        in_channels: Channels of the image.
        out_indices: Stages whose maps are returned, 0 to 3, or -4 to -1 counted from the last.
            Stages behind the last of them are not built.
        drop_path_rate: Stochastic depth of the last block; the rates rise linearly from 0 at the
            first.
        mlp_ratio: Width of the MLPs over the channels.
        norm_cfg: Norm after convolutions and stages: BN (by default), SyncBN or GN (with
            `num_groups`).
        layer_scale_init_value: Start of the LayerScale vectors; 0 leaves them out.
        frozen_stages: How many of the first stages are kept as they are, in eval mode and without
            gradient; -1 or 0 for none.
        norm_eval: Keep batch norms in eval mode while training.
        with_cp: Activation checkpointing: the layers' activations are computed again in the
            backward pass, with the same result and less memory.
        deploy: Build the form that `switch_to_deploy` makes, for weights saved in that form.
        init_cfg: MMEngine's initialisation, by default the authors', see :func:`init_layer`.

    Raises:
        TypeError: On an argument of the wrong type or an unknown key of `arch`.
        ValueError: On a value that is not allowed, in the constructor; in `forward` on an image
            with a side below 32 pixels.
        RuntimeError: On training in the form for inference, and on weights of the other form.
    """

    def __init__(
        self,
        arch: str | ConfigType = 'tiny',
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        mlp_ratio: float = 4.0,
        norm_cfg: ConfigType | None = None,
        layer_scale_init_value: float = 1e-6,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        deploy: bool = False,
        init_cfg: ConfigType | list[ConfigType] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.arch = resolve_arch(arch)
        self.embed_dims = tuple(self.arch['embed_dims'])
        depths = self.arch['depths']
        checks.check_number('in_channels', in_channels, int, low=1)
        checks.check_number('drop_path_rate', drop_path_rate, float, low=0, below=1)
        checks.check_number('mlp_ratio', mlp_ratio, float, above=0)
        checks.check_number('layer_scale_init_value', layer_scale_init_value, float, low=0)
        checks.check_number('frozen_stages', frozen_stages, int, low=-1, below=len(depths) + 1)
        checks.check_flags(norm_eval=norm_eval, with_cp=with_cp, deploy=deploy)
        norm_cfg = checks.resolve_norm_cfg(norm_cfg, self.embed_dims)
        self.out_indices = checks.resolve_out_indices(out_indices, len(depths))
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.deploy = False

        # Not linspace: its float32 rounding would differ from the recipe's rates.
        steps = max(sum(depths) - 1, 1)
        rates = iter([drop_path_rate * i / steps for i in range(sum(depths))])
        self.stages = nn.ModuleList()
        for i in range(self.out_indices[-1] + 1):
            dims, heads = self.embed_dims[i], self.arch['num_heads'][i]
            stride, split = self.arch['kv_strides'][i], self.arch['head_splits'][i]
            blocks: list[nn.Module] = []
            for _ in range(depths[i]):
                args = dims, mlp_ratio, next(rates), layer_scale_init_value
                mssa = MultiScaleSelfAttention(dims, heads, stride, split, norm_cfg)
                gsda = GlobalScaleDilatedAttention(dims, heads, self.arch['grid_size'])
                layers = TransformerLayer(mssa, *args), TransformerLayer(gsda, *args)
                blocks.append(ScopeViTBlock(*layers, with_cp))
            widths = [self.embed_dims[i - 1], dims] if i else [in_channels, dims // 2, dims]
            norm = build_norm_layer(norm_cfg, dims)[1]
            self.stages.append(ScopeViTStage(patch_embedding(widths, norm_cfg), blocks, norm))
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

    def switch_to_deploy(self, test_cfg: ConfigType | None = None) -> None:
        """Folds batch norms into convolutions, for inference, as `fold_batch_norms` says.

        Args:
            test_cfg: What MMPose hands to every part of its estimators here; not used.

        Raises:
            RuntimeError: In training mode.
        """
        if not self.deploy:
            fold_batch_norms(self)
            self.eval()  # also the layers that took the others' place
            self.requires_grad_(False)
            self.deploy = True

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        check_form((name for name in state_dict if name.startswith(prefix)), self.deploy)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the maps of the stages in `out_indices`.

        Args:
            x: Images, (B, in_channels, H, W); H and W are at least 32, of any size.

        Returns:
            Maps (B, C, ceil(H / s), ceil(W / s)) at strides s = 4, 8, 16, 32.
        """
        checks.check_image_size(x)
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
