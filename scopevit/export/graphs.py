"""Networks as they are exported: images of uint8 in, answers out, all between in one graph."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scopevit.errors import InputError
from scopevit.models import ScopeViT


class Images(nn.Module):
    """What the library's data preprocessor does to images in a test.

    Args:
        preprocessor: That of the model.
        is_rgb: Whether the test pipeline gives images RGB; OpenMMLab's give BGR mostly.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessor: Any, is_rgb: bool) -> None:
        super().__init__()
        turns = any(
            getattr(preprocessor, name, False)
            for name in ('to_rgb', '_channel_conversion', 'channel_conversion')
        )
        self.reverse = turns == is_rgb
        mean, std = (
            getattr(preprocessor, name, torch.tensor(value))
            .detach()
            .clone()
            .cpu()
            .reshape(-1, 1, 1)
            for name, value in (('mean', 0.0), ('std', 1.0))
        )
        self.register_buffer('mean', mean)
        self.register_buffer('std', std)
        padding = getattr(preprocessor, 'test_cfg', None)
        padding = padding if isinstance(padding, Mapping) else {}
        if padding.get('size') is not None:
            raise InputError('a data preprocessor that pads to test_cfg.size cannot be exported')
        self.divisor = int(
            getattr(preprocessor, 'pad_size_divisor', 0) or padding.get('size_divisor') or 1
        )
        self.fill = float(getattr(preprocessor, 'pad_value', getattr(preprocessor, 'pad_val', 0)))

    def forward(self, images: Tensor) -> Tensor:
        """Returns what the network takes.

        Args:
            images: (N, H, W, C) uint8, RGB where C is 3.
        """
        x = images.permute(0, 3, 1, 2).float()  # (N, H, W, C) -> (N, C, H, W)
        if self.reverse and x.shape[1] == 3:
            x = x.flip(1)
        x = (x - self.mean) / self.std
        if self.divisor > 1:
            height, width = x.shape[-2:]
            x = F.pad(x, (0, self.missing(width), 0, self.missing(height)), value=self.fill)
        return x

    def fill_color(self) -> list[float]:
        """Returns what becomes the padding's value, in the order of the images' channels."""
        color = (self.mean + self.fill * self.std).flatten()
        return (color.flip(0) if self.reverse and len(color) == 3 else color).tolist()

    def missing(self, size: int) -> int:
        """Returns what a side lacks to a multiple of the divisor, without negative numbers."""
        return (self.divisor - size % self.divisor) % self.divisor


class Graph(nn.Module):
    """A network with its images and answers.

    Args:
        model: Of a library.
        images: What makes its inputs.

    Attributes:
        outputs: Names of what it gives.
        takes_many: Whether its file takes any number of images; otherwise it takes one.
        most: Objects that it finds at most; None where there is no limit, or there are none.
    """

    outputs: tuple[str, ...] = ()
    takes_many = True
    most: int | None = None

    def __init__(self, model: Any, images: Images) -> None:
        super().__init__()
        self.images = images
        self.model = model


class ClassifierGraph(Graph):
    """Gives `probabilities`, (N, classes)."""

    outputs = ('probabilities',)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head = self.model.head
        scores = head(self.model.extract_feat(self.images(images)))
        if type(head).__name__.startswith('MultiLabel'):
            return (scores.sigmoid(),)
        return (scores.softmax(dim=1),)


class SegmentorGraph(Graph):
    """Gives `classes`, (N, H, W) uint8, of the size of the images, and `logits`.

    Logits, (N, classes, h, w), are as the decode head has them, mostly a quarter as high and wide
    as the images with their padding: who resizes them to the size of a photo gets the classes that
    the library has there.
    """

    outputs = ('classes', 'logits')

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.images(images)
        # The size after padding: the libraries' own code takes the padding off the scores.
        meta = dict(img_shape=x.shape[-2:], ori_shape=x.shape[-2:])
        head = last_head(self.model)
        if self.is_whole:
            logits = head(self.model.extract_feat(x))
            scores = head.predict_by_feat(logits, [meta])  # (N, classes, H, W)
        elif self.model.test_cfg.get('mode') == 'slide':
            scores = logits = self.slide(x)
        else:
            scores = logits = self.model.inference(x, [meta])
        scores = scores[..., : images.shape[1], : images.shape[2]]
        if scores.shape[1] > 1:
            return scores.argmax(dim=1).to(torch.uint8), logits
        return (scores[:, 0].sigmoid() > head.threshold).to(torch.uint8), logits

    def slide(self, x: Tensor) -> Tensor:
        """Returns the mean of the scores of windows, (N, classes, H, W).

        mmseg's own asks of its numbers whether all pixels were in a window, which nothing traces.
        """
        height, width = x.shape[-2:]
        sides, steps = self.model.test_cfg.crop_size, self.model.test_cfg.stride
        tops, lefts = (
            window_starts(*each) for each in zip((height, width), sides, steps, strict=True)
        )
        places = [(top, left) for top in tops for left in lefts]
        parts = torch.stack([x[..., y : y + sides[0], z : z + sides[1]] for y, z in places])
        side, span = parts.shape[-2:]  # less than asked for, where the image is smaller
        # All windows as one batch: (windows, N, C, h, w) -> (windows * N, C, h, w)
        scores = self.model.encode_decode(parts.flatten(0, 1), [dict(img_shape=(side, span))])
        scores = scores.unflatten(0, (len(places), -1))
        total, count = x.new_zeros(1), x.new_zeros(1)
        for part, (top, left) in zip(scores, places):
            around = (left, width - left - span, top, height - top - side)
            total = total + F.pad(part, around)
            count = count + F.pad(torch.ones_like(part[:1, :1]), around)
        return total / count

    @property
    def is_whole(self) -> bool:
        """Whether the images go through one decode head at once, as most do."""
        from mmseg.models.decode_heads.decode_head import BaseDecodeHead

        is_plain = type(self.model).__name__ == 'EncoderDecoder'
        is_plain &= getattr(type(last_head(self.model)), 'predict', None) is BaseDecodeHead.predict
        return is_plain and self.model.test_cfg.get('mode', 'whole') == 'whole'


def last_head(model: Any) -> Any:
    """Returns the decode head that has the last word, of a cascade as of others."""
    head = model.decode_head
    return head[-1] if isinstance(head, nn.ModuleList) else head


def window_starts(size: int, side: int, step: int) -> list[int]:
    """Returns where windows of a side begin, the last of which ends with the image."""
    count = -(-max(size - side, 0) // step) + 1
    return [max(min(i * step, size - side), 0) for i in range(count)]


class BackboneGraph(Graph):
    """Gives the maps of a backbone, the finest first."""

    def __init__(self, model: Any, images: Images, outputs: tuple[str, ...]) -> None:
        super().__init__(model, images)
        self.outputs = outputs

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.model(self.images(images))
        return tuple(maps) if isinstance(maps, (list, tuple)) else (maps,)


def switch_to_deploy(model: nn.Module) -> None:
    """Folds the batch norms of our backbone, where a model has one, in place."""
    for module in list(model.modules()):
        if isinstance(module, ScopeViT):
            module.switch_to_deploy()


def pool_any_size(model: nn.Module) -> None:
    """Puts `AnySizePool` in the place of adaptive poolings, which ONNX has for known sizes alone.

    In place. Those to one bin, which ONNX has as a mean, stay.
    """
    for parent in list(model.modules()):
        for name, child in parent._modules.items():  # of one that has two names, both
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
                setattr(parent, name, AnySizePool(child.output_size))


class AnySizePool(nn.Module):
    """Adaptive average pooling as weighted sums.

    Args:
        bins: Height and width of what it gives, or both; as PyTorch's, None is that of the maps.
    """

    def __init__(self, bins: int | tuple[int | None, ...] | None) -> None:
        super().__init__()
        self.bins = bins if isinstance(bins, tuple) else (bins, bins)

    def forward(self, x: Tensor) -> Tensor:
        """Pools maps, (N, C, H, W)."""
        rows, columns = (
            shares(side, bins or side, x) for side, bins in zip(x.shape[-2:], self.bins)
        )
        # Sums instead of products of matrices, whose reshapes take `torch.export` minutes.
        x = (x[:, :, None] * rows[:, :, None]).sum(dim=3)  # (N, C, 1, H, W) -> (N, C, bins, W)
        return (x[:, :, :, None] * columns).sum(dim=4)  # (N, C, bins, 1, W) -> (N, C, bins, bins)


def shares(side: int, bins: int, like: Tensor) -> Tensor:
    """Returns the share of each pixel of a side in the mean of each bin, (bins, side).

    A bin i has the pixels from floor(i * side / bins) to before ceil((i + 1) * side / bins), as
    PyTorch's.
    """
    pixels = torch.arange(side, device=like.device)
    i = torch.arange(bins, device=like.device)[:, None]
    is_in = (pixels >= i * side // bins) & (pixels < ((i + 1) * side + bins - 1) // bins)
    weights = is_in.to(like.dtype)
    return weights / weights.sum(dim=1, keepdim=True)
