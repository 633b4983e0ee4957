"""ScopeViT as one of timm's models: `timm.create_model('scopevit_tiny')` after `import scopevit`.

The network is the stages of `ScopeViT` with timm's classifier behind them and what timm's scripts
ask of a model. Parameters are named `stages.`, as the backbone's, and `head.fc.`.
"""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead, register_notrace_function, register_notrace_module
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from scopevit.checkpoint import read_checkpoint
from scopevit.errors import InputError
from scopevit.models import checks
from scopevit.models.convert import timm_weights
from scopevit.models.deploy import fold_batch_norms
from scopevit.models.scopevit import (
    GlobalScaleDilatedAttention,
    Mlp,
    MultiScaleSelfAttention,
    ScopeViT,
    ScopeViTBlock,
)

__all__ = [
    'ScopeViTClassifier',
    'from_checkpoint',
    'scopevit_small',
    'scopevit_tiny',
    'scopevit_xtiny',
]

STRIDES = (4, 8, 16, 32)

FIRST = 'stages.0.patch_embed.0.weight'

# What they do depends on sizes, which torch.fx cannot follow: timm's feature extraction by graphs
# takes each as one node.
for layer in (MultiScaleSelfAttention, GlobalScaleDilatedAttention, Mlp):
    register_notrace_module(layer)


class ScopeViTClassifier(nn.Module):
    """The stages of a `ScopeViT` with a classifier, by timm's conventions.

    Args:
        arch: Size of the backbone, see :class:`ScopeViT`.
        in_chans: Channels of the image.
        num_classes: Classes; 0 for features, (B, C).
        global_pool: Pooling before the classifier, as timm's `ClassifierHead` has it; '' for none,
            which `num_classes=0` goes with.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth, see :class:`ScopeViT`.
        layer_scale_init_value: Start of the LayerScale vectors, see :class:`ScopeViT`.

    Raises:
        TypeError: As :class:`ScopeViT`.
        ValueError: As :class:`ScopeViT`.
    """

    def __init__(
        self,
        arch: str | dict[str, Any] = 'tiny',
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
    ) -> None:
        super().__init__()
        backbone = ScopeViT(
            arch,
            in_chans,
            drop_path_rate=drop_path_rate,
            layer_scale_init_value=layer_scale_init_value,
        )
        self.stages = backbone.stages
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = backbone.embed_dims[-1]
        self.feature_info = [
            dict(num_chs=dims, reduction=stride, module=f'stages.{i}')
            for i, (dims, stride) in enumerate(zip(backbone.embed_dims, STRIDES, strict=True))
        ]
        self.head = ClassifierHead(self.num_features, num_classes, global_pool, drop_rate)
        self.init_classifier()

    def init_classifier(self) -> None:
        """Initialises a new classifier as the authors do: from a normal of std 0.02, bias 0."""
        if isinstance(self.head.fc, nn.Linear):
            nn.init.trunc_normal_(self.head.fc.weight, std=0.02)
            nn.init.zeros_(self.head.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits, (B, num_classes), of images as in `ScopeViT.forward`."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Computes the last map, (B, C, ceil(H / 32), ceil(W / 32))."""
        x = prepared(x)
        for stage in self.stages:
            x = stage(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Computes logits, or what the classifier gets, (B, C), of the last map."""
        return self.head(x, pre_logits=pre_logits)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Computes the last map and those of stages.

        Args:
            x: Images.
            indices: Stages, or how many of the last; None for all.
            norm: Not needed: every stage ends in its norm, which the next one reads, too.
            stop_early: Whether the last map is that of the last of `indices`.
            output_fmt: 'NCHW', the only one there is.
            intermediates_only: Whether the last map is left out.

        Raises:
            ValueError: On another `output_fmt`.
        """
        if output_fmt != 'NCHW':
            raise ValueError(f"output_fmt must be 'NCHW', not {output_fmt!r}")
        taken, last = feature_take_indices(len(self.stages), indices)
        x = prepared(x)
        maps = []
        for i, stage in enumerate(self.stages[: last + 1] if stop_early else self.stages):
            x = stage(x)
            if i in taken:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes what `forward_intermediates` does not need; returns the stages of `indices`.

        `prune_norm` has no effect: norms are part of the stages.
        """
        taken, last = feature_take_indices(len(self.stages), indices)
        self.stages = self.stages[: last + 1]
        if prune_head:
            self.reset_classifier(0, '')
        return taken

    def get_classifier(self) -> nn.Module:
        """Returns the last layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Makes a new classifier, with another pooling unless `global_pool` is None."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)
        self.init_classifier()

    def switch_to_deploy(self) -> None:
        """Folds batch norms into convolutions, for inference, as `fold_batch_norms` says.

        Raises:
            RuntimeError: In training mode.
        """
        fold_batch_norms(self)
        self.eval()  # also the layers that took the others' place

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Sets `with_cp` of every block."""
        for block in self.modules():
            if isinstance(block, ScopeViTBlock):
                block.with_cp = enable

    def no_weight_decay(self) -> set[str]:
        """Returns the weights without decay beyond vectors, which timm leaves out itself: none."""
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Returns how parameters are grouped from the image to the classifier.

        A group is a stage or else a block, its patch embedding or norm with it.
        """
        blocks = [
            (r'^stages\.(\d+)\.patch_embed', (0,)),
            (r'^stages\.(\d+)\.blocks\.(\d+)', None),
            (r'^stages\.(\d+)\.norm', (99999,)),  # timm's sign for the group before
        ]
        return dict(stem=r'^stages\.0\.patch_embed', blocks=r'^stages\.(\d+)' if coarse else blocks)


@register_notrace_function
def prepared(images: Tensor) -> Tensor:
    """Returns images as the stages take them, (B, C, H, W), once their size is found sound."""
    checks.check_image_size(images)
    return images.contiguous(memory_format=torch.channels_last)


def from_checkpoint(name: str, path: str | Path, **options: Any) -> nn.Module:
    """Builds a model of timm with the weights of a checkpoint, whoever named them.

    Args:
        name: 'scopevit_tiny', for instance.
        path: File or address, see `read_checkpoint`.
        options: As of `timm.create_model`; by default as many classes and channels as the weights
            have. With other numbers, the classifier is new and the first convolution adapted.

    Raises:
        InputError: If the checkpoint cannot be read, or has no classifier.
        RuntimeError: If it is of another size.
    """
    weights = timm_weights(read_checkpoint(path), path)
    if not {FIRST, 'head.fc.bias'} <= weights.keys():
        raise InputError(f'{path} is not of a classifier: no {FIRST} or no head.fc.bias')
    found = dict(num_classes=len(weights['head.fc.bias']), in_chans=weights[FIRST].shape[1])
    overlay = dict(
        state_dict=weights,
        num_classes=found['num_classes'],
        input_size=(found['in_chans'], *DEFAULT_CFG['input_size'][1:]),
    )
    options = found | options
    model: nn.Module = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=overlay, **options
    )
    return model


def create(variant: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    """Builds a size as timm builds its models."""
    return build_model_with_cfg(
        ScopeViTClassifier,
        variant,
        pretrained,
        arch=variant.removeprefix('scopevit_'),
        pretrained_filter_fn=lambda weights, model: timm_weights(weights, variant),
        feature_cfg=dict(out_indices=(0, 1, 2, 3), feature_cls='getter'),
        **kwargs,
    )


# As configs/classification tests at 256 x 256. No weights are public, so there is no url.
DEFAULT_CFG: dict[str, Any] = dict(
    url='',
    num_classes=1000,
    input_size=(3, 256, 256),
    min_input_size=(3, 32, 32),
    pool_size=(8, 8),
    crop_pct=0.9,
    interpolation='bicubic',
    fixed_input_size=False,
    mean=IMAGENET_DEFAULT_MEAN,
    std=IMAGENET_DEFAULT_STD,
    first_conv=FIRST.removesuffix('.weight'),
    classifier='head.fc',
    license='apache-2.0',
)
default_cfgs = generate_default_cfgs(
    {f'scopevit_{size}': DEFAULT_CFG for size in ('xtiny', 'tiny', 'small')}
)


@register_model
def scopevit_xtiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ScopeViT-xtiny, 5.3 M parameters."""
    return create('scopevit_xtiny', pretrained, **kwargs)


@register_model
def scopevit_tiny(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ScopeViT-tiny, 8.0 M parameters."""
    return create('scopevit_tiny', pretrained, **kwargs)


@register_model
def scopevit_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ScopeViT-small, 18.2 M parameters."""
    return create('scopevit_small', pretrained, **kwargs)
