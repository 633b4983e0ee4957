"""The masks of point-wise spatial attention (PSANet, ECCV 2018)."""

import torch
from torch import Tensor


def _offsets(size: int, mask: int, half: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where along an axis of the mask of a position each other one is, and if it is covered.

    Returns:
        Index into the mask and a boolean, both (other, position).
    """
    position = torch.arange(size, device=device)
    index = position[:, None] - position + half
    return index.clamp(0, mask - 1), (index >= 0) & (index < mask)


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fills `output` (N, H * W, H, W) from the masks (N, h_mask * w_mask, H, W) of all positions.

    The mask of a position covers its neighbours; of those it does not cover, the output is 0.
    `psa_type` 0 collects: the neighbour comes first, the position second; 1 distributes: the
    other way round.
    """
    device = input.device
    row, row_covered = _offsets(h_feature, h_mask, half_h_mask, device)
    column, column_covered = _offsets(w_feature, w_mask, half_w_mask, device)
    h, w = torch.arange(h_feature, device=device), torch.arange(w_feature, device=device)
    masks = input.view(num_, h_mask, w_mask, h_feature, w_feature)
    # (N, other H, other W, H, W)
    out = masks[:, row[:, None, :, None], column[:, None, :], h[:, None], w]
    covered = row_covered[:, None, :, None] & column_covered[:, None, :]
    out.masked_fill_(~covered, 0)
    if psa_type == 1:
        out = out.permute(0, 3, 4, 1, 2)
    output.copy_(out.reshape(output.shape))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fills `grad_input` (N, h_mask * w_mask, H, W) from `grad_output` (N, H * W, H, W)."""
    device = grad_output.device
    grad = grad_output.reshape(num_, h_feature, w_feature, h_feature, w_feature)
    if psa_type == 1:
        grad = grad.permute(0, 3, 4, 1, 2)  # (N, other H, other W, H, W)
    h, w = torch.arange(h_feature, device=device), torch.arange(w_feature, device=device)
    # (h_mask, H) and (w_mask, W)
    row = torch.arange(h_mask, device=device)[:, None] - half_h_mask + h
    column = torch.arange(w_mask, device=device)[:, None] - half_w_mask + w
    # (N, h_mask, w_mask, H, W)
    out = grad[
        :,
        row.clamp(0, h_feature - 1)[:, None, :, None],
        column.clamp(0, w_feature - 1)[:, None, :],
        h[:, None],
        w,
    ]
    row_exists, column_exists = (row >= 0) & (row < h_feature), (column >= 0) & (column < w_feature)
    out.masked_fill_(~(row_exists[:, None, :, None] & column_exists[:, None, :]), 0)
    grad_input.copy_(out.view(grad_input.shape))
