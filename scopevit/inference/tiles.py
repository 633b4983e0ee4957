"""Large images in tiles that overlap, and one result of theirs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torchvision.ops import batched_nms

from scopevit.inference.results import DetectionResult, Labels

LEAST = 64  # pixels of a tile's side
# Share of a tile's side that neighbours have in common at least: what is no larger than that lies
# whole in one of them.
OVERLAP = 0.25
# A box this near to where its tile was cut, as a share of the tile's side, may be of an object that
# goes on there; ...
NEAR = 0.01
# ... it is left out where a box of a neighbour has so much of it.
COVERED = 0.7
IOU_THRESHOLD = 0.5  # of networks that name none


@dataclass(frozen=True)
class Tile:
    """A part of an image, in pixels; `row` and `column` count the tiles."""

    row: int
    column: int
    top: int
    left: int
    bottom: int
    right: int

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the pixels, (h, w, ...) of (H, W, ...), in place."""
        return pixels[self.top : self.bottom, self.left : self.right]


def starts(length: int, size: int) -> list[int]:
    """Returns where tiles of a size begin along a side, as far apart as the overlap lets them."""
    if length <= size:
        return [0]
    count = -(-(length - size) // int(size * (1 - OVERLAP))) + 1
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def tiles_of(height: int, width: int, size: int) -> list[Tile]:
    """Returns the tiles of an image, row by row; all have one size."""
    return [
        Tile(i, j, top, left, min(top + size, height), min(left + size, width))
        for i, top in enumerate(starts(height, size))
        for j, left in enumerate(starts(width, size))
    ]


class MergedClassMap:
    """The class map of an image out of its tiles' logits, averaged where tiles overlap.

    Logits, not probabilities, as mmseg's sliding windows average them; but a tile's count the less
    the nearer to its border: with the plain mean, classes change along the lines where one tile
    more begins. What is kept is one tile and, of a row of tiles, the part that the next row
    overlaps, so that memory grows with the image's width, not its area.

    Args:
        tiles: The tiles, whose logits come in their order.
        threshold: For networks of one class: least probability of the pixels that are of it.
    """

    def __init__(self, tiles: Sequence[Tile], threshold: float = 0.5) -> None:
        self.height, self.width = tiles[-1].bottom, tiles[-1].right
        self.tops = [*sorted({tile.top for tile in tiles}), self.height]
        self.lefts = [*sorted({tile.left for tile in tiles}), self.width]
        self.threshold = threshold
        # Sums of the tiles' weights over each row and column of pixels; a pixel's is their product.
        self.rows, self.columns = (torch.zeros(n) for n in (self.height, self.width))
        for tile in tiles:
            if tile.column == 0:
                self.rows[tile.top : tile.bottom] += weights(tile.bottom - tile.top)
            if tile.row == 0:
                self.columns[tile.left : tile.right] += weights(tile.right - tile.left)
        self.class_map = np.zeros((self.height, self.width), np.uint8)
        self.below = self.current = self.weights = torch.zeros(0)

    def add(self, tile: Tile, logits: torch.Tensor) -> None:
        """Adds the logits of the next tile, (C, h, w)."""
        logits = logits.float().cpu()
        if not len(self.below):
            classes, height, width = logits.shape
            self.weights = weights(height)[:, None] * weights(width)
            dtype = np.uint8 if classes <= 256 else np.int32
            self.class_map = self.class_map.astype(dtype, copy=False)
            least = min(b - a for a, b in pairwise(self.tops))
            # Sums over the rows of tiles above, from the top of this row on.
            self.below = torch.zeros(classes, height - least, self.width)
        if tile.column == 0:
            self.current = torch.zeros_like(logits)
        self.current.addcmul_(logits, self.weights)
        bottom, right = self.tops[tile.row + 1], self.lefts[tile.column + 1]
        step = right - tile.left
        sums, rest = self.current[..., :step], self.current[..., step:]
        below = self.below[..., tile.left : right]
        sums[:, : below.shape[1]] += below
        done, later = sums.split([bottom - tile.top, tile.bottom - bottom], dim=1)
        below[:, : later.shape[1]] = later
        below[:, later.shape[1] :] = 0
        if len(done) > 1:
            labels = done.argmax(0)  # of sums as of means
        else:  # probabilities of the one class
            total = self.rows[tile.top : bottom, None] * self.columns[tile.left : right]
            labels = done[0] / total > self.threshold
        self.class_map[tile.top : bottom, tile.left : right] = labels.numpy()
        self.current = torch.cat([rest, torch.zeros_like(sums)], dim=-1)


def weights(length: int) -> torch.Tensor:
    """Returns what the pixels along a tile's side count: less as far as a neighbour has them."""
    distances = torch.arange(length) + 0.5  # to the nearer end
    return (torch.minimum(distances, length - distances) / (length * OVERLAP)).clamp(max=1)


def merge_objects(
    tiles: Sequence[Tile],
    found: Sequence[DetectionResult],
    test_cfg: dict[str, Any],
    labels: Labels,
    **image: Any,
) -> DetectionResult:
    """Returns the objects of an image out of those of its tiles.

    Of boxes that are cut by a tile's border, those that a neighbour has more of are left out; then
    comes suppression at the network's own threshold. There may be more than a network finds in one
    image, and suppression is plain where the network's is soft.

    Args:
        tiles: The tiles of the image.
        found: What was found in each.
        test_cfg: That of the network.
        labels: What the numbers mean.
        image: What `Result` says of the image.
    """
    height, width = image['size']
    boxes = [one.boxes + [t.left, t.top, t.left, t.top] for t, one in zip(tiles, found)]
    kept = [
        keep_whole(i, tiles, boxes, found, (height, width)) for i in range(len(tiles))
    ]  # one mask a tile
    sources = [(i, k) for i, keep in enumerate(kept) for k in np.flatnonzero(keep)]
    all_boxes = stack([box[keep] for box, keep in zip(boxes, kept)], (0, 4))
    scores = stack([one.scores[keep] for one, keep in zip(found, kept)], (0,))
    classes = stack([one.classes[keep] for one, keep in zip(found, kept)], (0,))
    nms = (test_cfg.get('rcnn') or test_cfg).get('nms') or {}
    is_agnostic = nms.get('class_agnostic', False)
    order = batched_nms(
        # It tells classes apart by moving their boxes, by more than float32 has digits for where
        # there are many classes in a large image.
        torch.from_numpy(all_boxes).double(),
        torch.from_numpy(scores).double(),
        torch.from_numpy(classes * (not is_agnostic)),
        nms.get('iou_threshold', IOU_THRESHOLD),
    ).numpy()
    rles = None
    if all(one.rles is not None for one in found):
        rles = tuple(
            move_rle(found[i].rles[k], tiles[i], (height, width))
            for i, k in (sources[n] for n in order)
        )
    return DetectionResult(
        boxes=all_boxes[order],
        scores=scores[order],
        classes=classes[order].astype(np.int64),
        rles=rles,
        labels=labels,
        **image,
    )


def stack(parts: Sequence[np.ndarray], empty: tuple[int, ...]) -> np.ndarray:
    """Returns arrays in one, of a shape where there are none."""
    return np.concatenate([np.zeros(empty, parts[0].dtype), *parts])


def keep_whole(
    index: int,
    tiles: Sequence[Tile],
    boxes: Sequence[np.ndarray],
    found: Sequence[DetectionResult],
    size: tuple[int, int],
) -> np.ndarray:
    """Returns which boxes of a tile, (N,) of bool, no neighbour has more of.

    Args:
        index: Number of the tile.
        tiles: All tiles.
        boxes: Theirs, in pixels of the image, (N, 4) each.
        found: What was found in each.
        size: Height and width of the image.
    """
    tile, own = tiles[index], boxes[index]
    keep = np.ones(len(own), bool)
    cut = np.flatnonzero(is_cut(own, tile, size))
    if not len(cut):
        return keep
    for k in neighbours(tile, tiles):
        if k == index or not len(boxes[k]):
            continue
        shares = intersections(own[cut], boxes[k]) / areas(own[cut])[:, None].clip(1e-6)
        covers = (
            (shares >= COVERED)
            & (areas(boxes[k]) > areas(own[cut])[:, None])
            & (found[k].classes == found[index].classes[cut][:, None])
        )
        keep[cut[covers.any(1)]] = False
    return keep


def neighbours(tile: Tile, tiles: Sequence[Tile]) -> Iterator[int]:
    """Yields the numbers of the tiles, out of those of an image, that may overlap one.

    Where three in a row are just enough, the first overlaps the third.
    """
    last = tiles[-1]
    for row in range(max(tile.row - 2, 0), min(tile.row + 2, last.row) + 1):
        for column in range(max(tile.column - 2, 0), min(tile.column + 2, last.column) + 1):
            yield row * (last.column + 1) + column


def is_cut(boxes: np.ndarray, tile: Tile, size: tuple[int, int]) -> np.ndarray:
    """Returns which boxes, (N, 4) in pixels of the image, end where their tile was cut, (N,)."""
    near = NEAR * max(tile.bottom - tile.top, tile.right - tile.left)
    height, width = size
    left, top, right, bottom = boxes.T
    return (
        ((left < tile.left + near) & (tile.left > 0))
        | ((top < tile.top + near) & (tile.top > 0))
        | ((right > tile.right - near) & (tile.right < width))
        | ((bottom > tile.bottom - near) & (tile.bottom < height))
    )


def areas(boxes: np.ndarray) -> np.ndarray:
    """Returns the areas of boxes, (N, 4) to (N,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the area that boxes have in common, (N, 4) and (M, 4) to (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low).clip(0).prod(2)


def move_rle(rle: dict[str, Any], tile: Tile, size: tuple[int, int]) -> dict[str, Any]:
    """Returns a mask of a tile as one of its image, both in COCO's compressed form.

    The mask of the image is never made: of a large one, that would take a second each.
    """
    height, width = size
    mask = coco_mask.decode(rle)  # (h, w)
    # Where runs of ones begin and end, in the order of the columns that COCO has.
    edges = np.diff(np.pad(mask, ((1, 1), (0, 0))).astype(np.int8), axis=0)  # (h + 1, w)
    columns, rows = np.nonzero(edges.T)
    ends = (columns + tile.left) * height + rows + tile.top
    # A run that ends at the bottom goes on at the top of the next column.
    same = np.flatnonzero(np.diff(ends) == 0)
    ends = np.delete(ends, np.concatenate([same, same + 1]))
    counts = [b - a for a, b in pairwise([0, *ends.tolist(), height * width])]
    if counts[-1] == 0:
        counts.pop()
    moved: dict[str, Any] = coco_mask.frPyObjects({'size': [height, width], 'counts': counts},
                                                  height, width)  # fmt: skip
    return moved
