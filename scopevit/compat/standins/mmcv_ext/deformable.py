"""Deformable convolutions, of the first kind and, with a mask, of the second.

torchvision's kernels have the layout of mmcv: the offsets of each place of the kernel are (y, x),
group by group, and maps fade to 0 within one pixel around them.
"""

import torch
from torch import Tensor

from ._shared import torchvision_operators, upcast

# Stride, padding and dilation, each down and across, and groups of channels and of offsets.
Geometry = tuple[int, int, int, int, int, int, int, int]


def _geometry(
    *,
    kW: int,  # known from the weights, as `kH`
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
) -> Geometry:
    """Orders what mmcv says of a convolution of the first kind."""
    return dH, dW, padH, padW, dilationH, dilationW, group, deformable_group


def _modulated_geometry(
    *,
    kernel_h: int,  # known from the weights, as `kernel_w`
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
) -> Geometry:
    """Orders what mmcv says of a convolution of the second kind."""
    return stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group


def _convolve(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Returns the convolution (N, C_out, h, w); without a mask all samples count alike."""
    return torchvision_operators().deform_conv2d(
        upcast(input),
        weight,
        upcast(offset),
        weight.new_zeros(len(input), 1) if mask is None else upcast(mask),
        weight.new_zeros(len(weight)) if bias is None else upcast(bias),
        *geometry,
        mask is not None,
    )


def _gradients(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    geometry: Geometry,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of input, weight, offset, mask and bias."""
    gradients = torchvision_operators()._deform_conv2d_backward(
        upcast(grad_output),
        upcast(input),
        weight,
        upcast(offset),
        weight.new_zeros(len(input), 1) if mask is None else upcast(mask),
        weight.new_zeros(len(weight)),
        *geometry,
        mask is not None,
    )
    by_offset = gradients[2].unflatten(1, (geometry[-1], -1))
    # (N, groups * K, h, w) -> (N, groups, K, h, w)
    at_edge = offset.unflatten(1, (geometry[-1], -1)) == _to_edge(weight, by_offset, geometry)
    by_offset.masked_fill_(at_edge, 0)
    return gradients


def _to_edge(weight: Tensor, offset: Tensor, geometry: Geometry) -> Tensor:
    """Offsets that lead to where the map begins, one pixel above it or left of it.

    The derivative jumps there. mmcv takes that from outside, 0, and torchvision that from inside.
    Without an offset, as at the start of every training, the kernel's first row and column are
    there when the padding is 1.

    Returns:
        (kH * kW * 2, h, w).
    """
    (kernel_h, kernel_w), (height, width) = weight.shape[2:], offset.shape[-2:]
    stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, *_ = geometry

    def along(kernel: int, size: int, stride: int, pad: int, dilation: int) -> Tensor:
        places = torch.arange(kernel, device=offset.device)[:, None] * dilation
        return pad - 1 - places - torch.arange(size, device=offset.device) * stride

    down = along(kernel_h, height, stride_h, pad_h, dilation_h)[:, None, :, None]
    across = along(kernel_w, width, stride_w, pad_w, dilation_w)[:, None]
    # (kH, 1, h, 1) and (kW, 1, w) -> (kH, kW, 2, h, w) -> (kH * kW * 2, h, w)
    return torch.stack(torch.broadcast_tensors(down, across), dim=2).flatten(0, 2)


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    im2col_step: int,
    **sizes: int,
) -> None:
    """Fills `output` (N, C_out, h, w).

    Args:
        input: (N, C, H, W).
        weight: (C_out, C / groups, kH, kW).
        offset: (N, deformable groups * kH * kW * 2, h, w), in pixels.
        output: Filled.
        columns: Not needed, as `ones`: torchvision makes its own.
        ones: See `columns`.
        im2col_step: How many images at a time, which bounds the memory.
        sizes: Those of `_geometry`.
    """
    geometry, weight = _geometry(**sizes), upcast(weight)
    for begin in range(0, len(input), im2col_step):
        part = slice(begin, begin + im2col_step)
        output[part] = _convolve(input[part], weight, offset[part], None, None, geometry)


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    *,
    im2col_step: int,
    **sizes: int,
) -> None:
    """Fills `grad_input` and `grad_offset`; other arguments as in the forward pass.

    torchvision finds all gradients at once. That of the weights is left in `columns`, a buffer that
    mmcv hands on to `deform_conv_backward_parameters`.
    """
    geometry, weight = _geometry(**sizes), upcast(weight)
    grad_weight = torch.zeros_like(weight)
    for begin in range(0, len(input), im2col_step):
        part = slice(begin, begin + im2col_step)
        by_input, by_weight, by_offset, *_ = _gradients(
            grad_output[part], input[part], weight, offset[part], None, geometry
        )
        grad_input[part], grad_offset[part] = by_input, by_offset
        grad_weight += by_weight
    columns.resize_(weight.shape).copy_(grad_weight)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    im2col_step: int,
    **sizes: int,
) -> None:
    """Adds the gradient of the weights, times `scale`; other arguments as in the forward pass.

    `columns` has it already where input or offsets asked for theirs.
    """
    if not columns.numel():
        deform_conv_backward_input(
            input,
            offset,
            grad_output,
            torch.empty_like(input),
            torch.empty_like(offset),
            torch.zeros_like(grad_weight),  # its own gradient does not depend on it
            columns,
            im2col_step=im2col_step,
            **sizes,
        )
    grad_weight.add_(columns, alpha=scale)
    columns.resize_(0)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Fills `output` (N, C_out, h, w).

    Args:
        input: (N, C, H, W).
        weight: (C_out, C / groups, kernel_h, kernel_w).
        bias: (C_out, ), or nothing.
        ones: Not needed, as `columns`: torchvision makes its own.
        offset: (N, deformable groups * kernel_h * kernel_w * 2, h, w), in pixels.
        mask: (N, deformable groups * kernel_h * kernel_w, h, w), how much each sample counts.
        output: Filled.
        columns: See `ones`.
        with_bias: Whether there is a bias.
        sizes: Those of `_modulated_geometry`.
    """
    geometry, weight = _modulated_geometry(**sizes), upcast(weight)
    output.copy_(_convolve(input, weight, offset, mask, bias if with_bias else None, geometry))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Fills the gradients, that of the bias where there is one; see the forward pass."""
    geometry = _modulated_geometry(**sizes)
    found = _gradients(grad_output, input, upcast(weight), offset, mask, geometry)
    filled = [grad_input, grad_weight, grad_offset, grad_mask]
    for grad, value in zip([*filled, grad_bias] if with_bias else filled, found):
        grad.copy_(value)
