"""What all formats are read into: images, and what is annotated on them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class OwnImage:
    """An image and its annotations.

    Attributes:
        file: Its path below the folder of the data, with `/`.
        size: Width and height in pixels, as the libraries load it.
        split: 'train', 'val' or 'test' where the data say it.
        label: Class of the image, in classification.
        objects: Annotations as in COCO (`bbox` xywh, `segmentation`, `keypoints`, `area`,
            `iscrowd`), whose `category` is an index of the classes.
        label_map: Label map of the image, its path below the folder of the data.
        pixels: How many pixels, or objects, the label map has by class.
        draw: Writes the label map to a file, where it is not there as the library reads it.
    """

    file: str
    size: tuple[int, int]
    split: str | None = None
    label: int | None = None
    objects: list[dict[str, Any]] = field(default_factory=list)
    label_map: str | None = None
    pixels: dict[int, int] = field(default_factory=dict)
    draw: Callable[[Path], object] | None = None

    def labels(self) -> list[int]:
        """Returns the class of the image, or those of its objects, or those on its map, once."""
        if self.pixels:
            return list(self.pixels)
        labels: list[int] = [found['category'] for found in self.objects]
        return labels if self.label is None else [*labels, self.label]


@dataclass
class Skeleton:
    """Keypoints of an object.

    Attributes:
        names: One a keypoint.
        links: Pairs of indices that are drawn as bones.
        pairs: Pairs of indices that change places where the image is flipped; None where nothing
            says which do.
    """

    names: list[str]
    links: list[tuple[int, int]] = field(default_factory=list)
    pairs: list[tuple[int, int]] | None = None


@dataclass
class OwnData:
    """What was found.

    Attributes:
        root: Folder that the images' paths start from, absolute.
        format: What it was read as, for people.
        classes: Names by index.
        images: In a fixed order.
        skeleton: Of pose.
        notes: What the user should know, a sentence each.
    """

    root: Path
    format: str
    classes: list[str]
    images: list[OwnImage]
    skeleton: Skeleton | None = None
    notes: list[str] = field(default_factory=list)

    def part(self, split: str) -> list[OwnImage]:
        """Returns the images of a split."""
        return [image for image in self.images if image.split == split]

    def counts(self, split: str) -> list[int]:
        """Returns how many images or objects of a split each class has."""
        labels = Counter(label for image in self.part(split) for label in image.labels())
        return [labels[i] for i in range(len(self.classes))]
