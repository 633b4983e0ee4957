"""The form for inference: batch norms folded into the convolutions before them."""

from collections.abc import Iterable
from itertools import pairwise

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_eval

# Tensors that only one form of the backbone has, by how their names end.
TRAINED = '.position_encoding.norm1.running_mean'
DEPLOYED = '.position_encoding.expand.bias'
BEFORE_0_1 = '.rel_pos.constant'


def fold_batch_norms(model: nn.Module) -> None:
    """Folds every batch norm that follows a convolution into it, in place.

    In this network, a norm that is registered right after a convolution is all that reads its
    output. Norms that depend on their input (group norms, batch norms that track no statistics)
    stay, and so do those of the stages: before them there is a sum, and the convolution that
    follows pads with zeros, to which the norm's shift would have to be added at the border.

    Raises:
        RuntimeError: In training mode.
    """
    if any(module.training for module in model.modules()):
        raise RuntimeError(
            'switch_to_deploy() needs a ScopeViT in eval mode; call eval() before it'
        )
    for parent in list(model.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if not isinstance(conv, nn.Conv2d) or not isinstance(norm, _BatchNorm):
                continue
            if norm.running_mean is not None:
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())


def check_form(names: Iterable[str], deploy: bool) -> None:
    """Raises a RuntimeError unless weights of these names are of a backbone in the same form."""
    names = list(names)
    if any(name.endswith(BEFORE_0_1) for name in names):
        raise RuntimeError(
            'these weights are of a ScopeViT switched to deploy by a version that folded more than '
            'batch norms; load the weights it was made of and call switch_to_deploy()'
        )
    if not deploy and any(name.endswith(DEPLOYED) for name in names):
        raise RuntimeError(
            'these weights are of a ScopeViT switched to deploy; build the backbone with '
            'deploy=True to load them'
        )
    if deploy and any(name.endswith(TRAINED) for name in names):
        raise RuntimeError(
            'these weights are of a ScopeViT not switched to deploy; load them with '
            'deploy=False and call switch_to_deploy() after it'
        )
