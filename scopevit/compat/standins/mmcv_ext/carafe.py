"""CARAFE: enlarging features by a kernel of its own at each place (arXiv:1905.02188).

At each place of the input, the patch around it (C / groups, K * K) times the kernels of the
pixels it becomes (K * K, scale * scale): a product of small matrices, taken row of the kernel by
row, because a patch at every place takes K * K times the memory of the features.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ._shared import upcast


class _Pieces:
    """Features, kernels and outputs as batches of matrices, one for each group and place."""

    def __init__(
        self, features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale: int
    ) -> None:
        count, channels, height, width = features.shape
        self.kernel_size, self.margin = kernel_size, kernel_size // 2
        self.places = count, group_size, height, width
        self.channels, self.scale = channels // group_size, scale
        padded = F.pad(upcast(features), [self.margin] * 4)
        # (N, C, H, W) -> (N, groups, C / groups, H, W)
        self.padded = padded.unflatten(1, (group_size, self.channels))
        self.kernels = self._kernels(upcast(masks).to(padded.dtype))

    def _kernels(self, masks: Tensor) -> Tensor:
        """(N, groups * K * K, H * s, W * s) -> (N, groups, K, H, W, K, s, s), a view."""
        count, groups, height, width = self.places
        size, scale = self.kernel_size, self.scale
        masks = masks.view(count, groups, size, size, height, scale, width, scale)
        return masks.permute(0, 1, 2, 4, 6, 3, 5, 7)

    def patches(self, row: int) -> Tensor:
        """What a row of the kernel sees (N * groups * H * W, C / groups, K)."""
        height = self.places[2]
        seen = self.padded[:, :, :, row : row + height].unfold(4, self.kernel_size, 1)
        # (N, groups, C, H, W, K) -> (N, groups, H, W, C, K)
        return seen.permute(0, 1, 3, 4, 2, 5).reshape(-1, self.channels, self.kernel_size)

    def kernel_row(self, row: int) -> Tensor:
        """A row of the kernels (N * groups * H * W, K, s * s)."""
        return self.kernels[:, :, row].reshape(-1, self.kernel_size, self.scale**2)

    def matrices(self, image: Tensor) -> Tensor:
        """(N, C, H * s, W * s) -> (N * groups * H * W, C / groups, s * s)"""
        count, groups, height, width = self.places
        image = image.view(count, groups, self.channels, height, self.scale, width, self.scale)
        return image.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, self.channels, self.scale**2)

    def image(self, matrices: Tensor) -> Tensor:
        """(N * groups * H * W, C / groups, s * s) -> (N, C, H * s, W * s)"""
        count, groups, height, width = self.places
        scale = self.scale
        image = matrices.view(count, groups, height, width, self.channels, scale, scale)
        image = image.permute(0, 1, 4, 2, 5, 3, 6)  # (N, groups, C / groups, H, s, W, s)
        return image.reshape(count, groups * self.channels, height * scale, width * scale)


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fills `output` (N, C, H * s, W * s), s the `scale_factor`.

    Args:
        features: (N, C, H, W).
        masks: A kernel for each pixel of the output (N, groups * K * K, H * s, W * s).
        output: Is filled.
        kernel_size: K.
        group_size: How many groups of channels have kernels of their own.
        scale_factor: s.
    """
    with torch.autocast(features.device.type, enabled=False):
        pieces = _Pieces(features, masks, kernel_size, group_size, scale_factor)
        out = torch.bmm(pieces.patches(0), pieces.kernel_row(0))
        for row in range(1, kernel_size):
            out.baddbmm_(pieces.patches(row), pieces.kernel_row(row))
        output.copy_(pieces.image(out))


def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fills `bottom_grad` and `mask_grad`, of the shapes of features and masks."""
    with torch.autocast(features.device.type, enabled=False):
        pieces = _Pieces(features, masks, kernel_size, group_size, scale_factor)
        grad = pieces.matrices(top_grad.to(pieces.padded.dtype))
        grad_kernels = torch.empty_like(pieces.kernels)
        grad_padded = torch.zeros_like(pieces.padded)
        height, width = features.shape[2:]
        for row in range(kernel_size):
            by_kernel = torch.bmm(pieces.patches(row).transpose(1, 2), grad)
            grad_kernels[:, :, row] = by_kernel.view_as(grad_kernels[:, :, row])
            by_patch = torch.bmm(grad, pieces.kernel_row(row).transpose(1, 2))
            by_patch = by_patch.view(*pieces.places, pieces.channels, kernel_size)
            by_patch = by_patch.permute(5, 0, 1, 4, 2, 3)  # (K, N, groups, C / groups, H, W)
            for column, part in enumerate(by_patch):
                grad_padded[..., row : row + height, column : column + width] += part
    # (N, groups, K, H, W, K, s, s) -> (N, groups, K, K, H, s, W, s)
    mask_grad.copy_(grad_kernels.permute(0, 1, 2, 5, 3, 6, 4, 7).reshape(mask_grad.shape))
    inner = slice(pieces.margin, -pieces.margin or None)
    bottom_grad.copy_(grad_padded[..., inner, inner].flatten(1, 2))


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fills `output` as `carafe_naive_forward` does, and `rfeatures`.

    The compiled operator leaves copies with the channels last in `rfeatures`, `routput` and
    `rmasks`. Only the first is read again, as the features that `carafe_backward` is given.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fills `bottom_grad` and `mask_grad`; the other buffers are left as they are."""
    carafe_naive_backward(
        top_grad,
        rfeatures,
        masks,
        bottom_grad,
        mask_grad,
        kernel_size,
        group_size,
        scale_factor,
    )
