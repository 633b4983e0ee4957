"""What `torch.hub.load('CLONE', 'scopevit_tiny', source='local')` finds."""

from typing import Any

from torch import nn

import scopevit

dependencies = ['mmcv', 'mmengine', 'timm', 'torch']


def scopevit_xtiny(pretrained: str | None = None, **options: Any) -> nn.Module:
    """ScopeViT-xtiny; `pretrained` is a checkpoint, `options` are those of timm's models."""
    return create('scopevit_xtiny', pretrained, options)


def scopevit_tiny(pretrained: str | None = None, **options: Any) -> nn.Module:
    """ScopeViT-tiny; `pretrained` is a checkpoint, `options` are those of timm's models."""
    return create('scopevit_tiny', pretrained, options)


def scopevit_small(pretrained: str | None = None, **options: Any) -> nn.Module:
    """ScopeViT-small; `pretrained` is a checkpoint, `options` are those of timm's models."""
    return create('scopevit_small', pretrained, options)


def model(name: str, pretrained: str | None = None) -> nn.Module:
    """The model of a recipe, of any of the four tasks, as `scopevit.get_model` builds it."""
    return scopevit.get_model(name, pretrained)


def create(name: str, pretrained: str | None, options: dict[str, Any]) -> nn.Module:
    import timm

    from scopevit.models.timm_model import from_checkpoint

    if pretrained:
        return from_checkpoint(name, pretrained, **options)
    return timm.create_model(name, **options)
