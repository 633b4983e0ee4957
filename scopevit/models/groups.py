"""The dilated groups of a map, of any size: how its tokens get there, and back.

With dilation d, group i of a side of the map holds the positions i, i + d, i + 2d, ...; d is the
smallest for which a group has at most `grid_size` of them. A group of the map is one of its rows'
groups crossed with one of its columns'.
"""

from collections.abc import Iterator

from torch import Tensor


def dilated_spans(size: int, grid_size: int) -> tuple[int, list[tuple[slice, int]]]:
    """Splits one side of a map, of `size` positions, into groups of `grid_size` at most.

    Returns:
        The dilation, and for each kind of group which groups are of the kind and how many positions
        each of them holds. The first groups may hold one more than the others, so that there are at
        most two kinds.
    """
    # Both rounded up, without numbers below 0, which ONNX divides otherwise than Python.
    dilation = (size + grid_size - 1) // grid_size
    slots = (size + dilation - 1) // dilation
    full = size - (slots - 1) * dilation  # groups that reach into the last, partial run
    spans = [(slice(0, full), slots)]
    if full < dilation:
        spans.append((slice(full, dilation), slots - 1))
    return dilation, spans


class DilatedGroups:
    """The groups of a map, kind by kind; those of a kind are equally large.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        grid_size: The most rows, and columns, that a group may hold.

    Attributes:
        kinds: Rows and columns of the groups of each kind: of one kind where both sides of the map
            are multiples of their dilation, else of up to four.
    """

    def __init__(self, height: int, width: int, grid_size: int) -> None:
        self.height, self.width = height, width
        self.dilation_y, spans_y = dilated_spans(height, grid_size)
        self.dilation_x, spans_x = dilated_spans(width, grid_size)
        self.spans = [(span_y, span_x) for span_y in spans_y for span_x in spans_x]
        self.kinds = [(rows, columns) for (_, rows), (_, columns) in self.spans]
        (rows, columns), *_ = self.kinds
        self.by_run = (-1, rows, self.dilation_y, columns, self.dilation_x)

    def split(self, x: Tensor) -> Iterator[Tensor]:
        """Yields the groups of each kind in a map (B, H, W, C): (B, gy, gx, rows, columns, C)."""
        if len(self.kinds) == 1:
            # (B, H, W, C) -> (B, rows, gy, columns, gx, C) -> (B, gy, gx, rows, columns, C)
            yield x.reshape(*self.by_run, x.shape[-1]).permute(0, 2, 4, 1, 3, 5)
            return
        for (span_y, _), (span_x, _) in self.spans:
            # (B, H, W, C) -> (B, rows, columns, C, gy, gx) -> (B, gy, gx, rows, columns, C)
            groups = x[:, span_y.start :, span_x.start :]
            groups = groups.unfold(1, span_y.stop - span_y.start, self.dilation_y)
            groups = groups.unfold(2, span_x.stop - span_x.start, self.dilation_x)
            yield groups.permute(0, 4, 5, 1, 2, 3)

    def merge(self, kinds: Iterator[Tensor]) -> Tensor:
        """Makes a map (B, H, W, C) of the groups that `split` yields.

        A kind is written into the map before the next is asked for, so that only one is alive.
        """
        if len(self.kinds) == 1:
            groups = next(kinds)
            # (B, gy, gx, rows, columns, C) -> (B, rows, gy, columns, gx, C) -> (B, H, W, C)
            groups = groups.permute(0, 3, 1, 4, 2, 5)
            return groups.reshape(groups.shape[0], self.height, self.width, groups.shape[-1])
        out: Tensor | None = None
        for (span_y, rows), (span_x, columns) in self.spans:
            groups = next(kinds)
            if out is None:
                # The slots that not all groups have stay unset, and are cut off below.
                out = groups.new_empty(groups.shape[0], *self.by_run[1:], groups.shape[-1])
            # (B, gy, gx, rows, columns, C) -> (B, rows, gy, columns, gx, C)
            out[:, :rows, span_y, :columns, span_x] = groups.permute(0, 3, 1, 4, 2, 5)
            del groups
        assert out is not None
        # (B, rows, dy, columns, dx, C) -> (B, H', W', C) -> (B, H, W, C)
        return out.flatten(3, 4).flatten(1, 2)[:, : self.height, : self.width]

    def mask(self, bias: Tensor) -> Tensor:
        """Returns the bias (heads, S, S) of a kind as it is: its groups have all their slots."""
        return bias
