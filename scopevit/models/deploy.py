"""Folding of layers that are constant at inference into the layers beside them."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_eval


def is_pointwise(norm: nn.Module) -> bool:
    """Whether a norm treats every pixel alike: a batch norm by its running statistics, or none."""
    is_fixed = isinstance(norm, _BatchNorm) and not norm.training and norm.running_mean is not None
    return is_fixed or isinstance(norm, nn.Identity)


def fold_batch_norm(conv: nn.Conv2d, norm: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    """Folds a batch norm into the convolution right before it.

    Args:
        conv: Convolution, in eval mode.
        norm: Its norm, in eval mode.

    Returns:
        A convolution that does the work of both and an identity; both
        as they were where the norm depends on its input (group norm, or a batch norm that tracks
        no statistics).
    """
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None:
        return conv, norm
    return fuse_conv_bn_eval(conv, norm), nn.Identity()


@torch.no_grad()
def fold_scale(linear: nn.Linear, scale: Tensor) -> None:
    """Multiplies the outputs (O,) of a linear layer by `scale` (O,), in its weights."""
    linear.weight.mul_(scale[:, None])
    linear.bias.mul_(scale)
