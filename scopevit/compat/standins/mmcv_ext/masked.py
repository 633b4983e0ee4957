"""Convolution of the places of a map that a mask chooses, by columns."""

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Fills `col` (C * kernel_h * kernel_w, M) with what the kernel sees at M places.

    Args:
        im: Map (1, C, H, W).
        mask_h_idx: Rows of the places (M, ).
        mask_w_idx: Their columns (M, ).
        col: Filled.
        kernel_h: Height of the kernel, in pixels.
        kernel_w: Width of the kernel, in pixels.
        pad_h: Rows of 0 above and below the map.
        pad_w: Columns of 0 left and right of it.
    """
    # Any place of the map may be chosen, also where the kernel reaches beyond the padding.
    right, below = max(pad_w, kernel_w - 1 - pad_w), max(pad_h, kernel_h - 1 - pad_h)
    padded = F.pad(im[0], (pad_w, right, pad_h, below))
    rows = mask_h_idx + torch.arange(kernel_h, device=im.device)[:, None, None]
    columns = mask_w_idx + torch.arange(kernel_w, device=im.device)[:, None]
    # (C, kernel_h, kernel_w, M) -> (C * kernel_h * kernel_w, M)
    col.copy_(padded[:, rows, columns].flatten(0, 2))


def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Fills `im` (1, channels, height, width) at M places with the columns of `col` (channels, M).

    Other places stay as they are. Rows and columns of the places are `mask_h_idx` and `mask_w_idx`.
    """
    im.view(channels, height, width)[:, mask_h_idx, mask_w_idx] = col.to(im.dtype)
