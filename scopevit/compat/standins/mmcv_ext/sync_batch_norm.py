"""The steps of mmcv's `SyncBatchNorm`, between which it sums over the processes.

Inputs are (N, C, L); statistics, `norm` and gradients of the parameters are float32.
"""

import torch
from torch import Tensor

from ._shared import upcast


def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    """Fills `mean` (C, ) of this process."""
    mean.copy_(upcast(input).mean(dim=(0, 2)))


def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    """Fills `var` (C, ), the mean square of the distance to the `mean` of all processes."""
    var.copy_((upcast(input) - mean[:, None]).square_().mean(dim=(0, 2)))


def sync_bn_forward_output(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    eps: float,
    momentum: Tensor | float,
    group_size: int,
) -> None:
    """Fills `norm` and `output` (N, C, L) and `std` (C, ); moves the running statistics.

    The running variance is that of a sample: all processes are taken to have as many elements
    as this one.
    """
    std.copy_((var + eps).sqrt())
    norm.copy_(input).sub_(mean[:, None]).div_(std[:, None])
    if weight is None or bias is None:
        output.copy_(norm)
    else:
        output.copy_(torch.addcmul(bias[:, None].to(norm), norm, weight[:, None].to(norm)))
    if running_mean is None or running_var is None:
        return
    count = input.size(0) * input.size(2) * group_size
    sample_var = var * (count / (count - 1)) if count > 1 else var
    for running, new in ((running_mean, mean), (running_var, sample_var)):
        running.copy_(momentum * new + (1 - momentum) * running)


def sync_bn_backward_param(
    grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor
) -> None:
    """Fills the gradients (C, ) of weight and bias, of this process."""
    grad = upcast(grad_output)
    grad_weight.copy_((grad * norm).sum(dim=(0, 2)))
    grad_bias.copy_(grad.sum(dim=(0, 2)))


def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Fills `grad_input` (N, C, L), given the parameters' gradients as means over processes."""
    count = grad_output.size(0) * grad_output.size(2)
    through_statistics = (norm * grad_weight[:, None]).add_(grad_bias[:, None]).div_(count)
    grad = upcast(grad_output) - through_statistics
    grad_input.copy_(grad.mul_((weight / std)[:, None]))
