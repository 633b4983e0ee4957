"""Focal losses of logits, and of probabilities after a softmax."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ._shared import upcast


def _row_weight(weight: Tensor, target: Tensor) -> Tensor:
    """The class weight of each row (N, ), 1 where no weight was given.

    Background is the label one past the last class and has no weight: 1 is taken. (The compiled
    operator reads past the end of `weight` there.)
    """
    weight = upcast(weight)
    if weight.numel() == 0:
        return weight.new_ones(len(target))
    foreground = (target >= 0) & (target < weight.numel())
    return torch.where(foreground, weight[target.clamp(0, weight.numel() - 1)], 1)


def _sigmoid_focal_terms(
    input: Tensor, target: Tensor, alpha: float, sign: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Negated class balance, log-probability and probability of the truth, each (N, C).

    All may be written to: detectors with dense heads have a hundred million logits. The balance of
    logits that are not of the target is multiplied by `sign`.
    """
    is_target = target[:, None] == torch.arange(input.size(1), device=input.device)
    logits = torch.where(is_target, input, -input)
    log_prob = logsigmoid(logits)
    balance = torch.full_like(logits, sign * (alpha - 1)).masked_fill_(is_target, -alpha)
    return balance, log_prob, logits.sigmoid_()


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fills `output` (N, C) with `-alpha_t * (1 - p_t) ** gamma * log(p_t)`."""
    loss, log_prob, prob = _sigmoid_focal_terms(upcast(input), target, alpha, 1)
    rest = prob.neg_().add_(1)
    loss.mul_(rest.pow_(gamma)).mul_(log_prob)
    output.copy_(loss.mul_(_row_weight(weight, target)[:, None]))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fills `grad_input` (N, C) with the derivative of the loss by the logits."""
    grad, log_prob, prob = _sigmoid_focal_terms(upcast(input), target, alpha, -1)
    # With q = 1 - p_t: d(q^gamma log p_t)/dz = q^gamma (q - gamma p_t log p_t), z = +-logit.
    slope = log_prob.mul_(prob).mul_(-gamma)
    rest = prob.neg_().add_(1)
    slope.add_(rest)
    grad.mul_(rest.pow_(gamma)).mul_(slope)
    grad_input.copy_(grad.mul_(_row_weight(weight, target)[:, None]))


def _softmax_focal_terms(softmax: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of the target (N, ) and its logarithm; rows of label -1 count for nothing."""
    prob = softmax.gather(1, target.clamp(min=0)[:, None]).squeeze(1)
    # A probability that underflowed to 0 has no logarithm.
    return prob, prob.clamp(min=torch.finfo(torch.float32).tiny).log()


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fills `output` (N, ); `input` (N, C) already went through the softmax."""
    prob, log_prob = _softmax_focal_terms(upcast(input), target)
    loss = -alpha * (1 - prob) ** gamma * log_prob
    output.copy_(torch.where(target >= 0, loss * _row_weight(weight, target), 0))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fills `grad_input` (N, C) with the derivative by the logits before the softmax."""
    softmax = upcast(input)
    prob, log_prob = _softmax_focal_terms(softmax, target)
    rest = 1 - prob
    # dL/dp * p; the softmax contributes p (1[c = target] - p_c).
    by_prob = alpha * (gamma * rest ** (gamma - 1) * prob * log_prob - rest**gamma)
    by_prob = torch.where(target >= 0, by_prob * _row_weight(weight, target), 0)
    is_target = target[:, None] == torch.arange(softmax.size(1), device=softmax.device)
    grad_input.copy_(by_prob[:, None] * (is_target.to(softmax.dtype) - softmax))
