"""What is predicted of an image, one class a task."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


@dataclass(frozen=True)
class Labels:
    """What the numbers in results mean.

    Attributes:
        classes: Names of the classes, by their numbers.
        palette: Their colours, RGB.
        keypoints: Names of the keypoints, by their numbers.
        skeleton: Pairs of keypoints that a line joins.
        keypoint_palette: Colours of the keypoints, RGB.
    """

    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    keypoint_palette: tuple[tuple[int, int, int], ...] = ()

    def name(self, label: int) -> str:
        """Returns the name of a class, or its number where it has none."""
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)

    def keypoint(self, number: int) -> str:
        """Returns the name of a keypoint, or its number where it has none."""
        return self.keypoints[number] if number < len(self.keypoints) else str(number)

    def color(self, label: int) -> tuple[int, int, int]:
        """Returns the colour of a class, RGB."""
        return pick_color(self.palette, label)


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """What is predicted of an image.

    Attributes:
        source: The image: its path, that of its video, or a name.
        name: Name for what is written about it, a relative path.
        size: Height and width in pixels.
        frame: Its number in a video or from a camera, from 0.
        labels: What the numbers mean.
        image: Pixels, (H, W, 3) BGR or (H, W), uint8; None where `source` has them.
        group: Number of the source that it is from, where there are several.
    """

    source: str
    name: str
    size: tuple[int, int]
    labels: Labels = field(repr=False)
    frame: int | None = None
    image: np.ndarray | None = field(default=None, repr=False)
    group: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns the result in types that JSON has."""
        height, width = self.size
        common = {'source': self.source, 'height': height, 'width': width}
        return common | ({} if self.frame is None else {'frame': self.frame}) | self.content()

    def content(self) -> dict[str, Any]:
        """Returns what `to_dict` has beyond the image."""
        raise NotImplementedError

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """Returns the result as COCO's results have it, with the numbers of classes from 0."""
        raise NotImplementedError

    def to_supervision(self) -> Any:
        """Returns the result as the package supervision has it.

        Raises:
            InputError: If that is not installed.
        """
        from scopevit.inference.supervision import convert

        return convert(self)

    def plot(self) -> np.ndarray:
        """Draws the result.

        Returns:
            The picture, (H', W', 3) RGB uint8: enlarged where it is small, with text below.
        """
        from scopevit.inference.drawing import draw

        return draw(self)

    def summary(self) -> str:
        """Returns the result in a few words."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassificationResult(Result):
    """The classes of an image, the most probable first.

    Attributes:
        classes: Numbers of the classes, (k,).
        scores: Their scores, (k,).
    """

    classes: np.ndarray
    scores: np.ndarray

    def content(self) -> dict[str, Any]:
        pairs = zip(self.classes.tolist(), self.scores.tolist())
        return {
            'classes': [
                {'class': label, 'label': self.labels.name(label), 'score': round(score, 6)}
                for label, score in pairs
            ]
        }

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        return [
            {'image_id': image_id, 'category_id': label, 'score': score}
            for label, score in zip(self.classes.tolist(), self.scores.tolist())
        ]

    def summary(self) -> str:
        pairs = zip(self.classes.tolist(), self.scores.tolist())
        return ', '.join(f'{self.labels.name(label)} {score:.2f}' for label, score in pairs)


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectionResult(Result):
    """The objects in an image.

    Attributes:
        boxes: (N, 4), left, top, right and bottom in pixels of the image.
        scores: (N,).
        classes: Numbers of their classes, (N,).
        rles: A mask each in COCO's compressed form; None where the network has none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    rles: tuple[dict[str, Any], ...] | None = field(default=None, repr=False)

    @cached_property
    def masks(self) -> np.ndarray | None:
        """Masks, (N, H, W) of bool, decoded from `rles`."""
        if self.rles is None:
            return None
        masks = [coco_mask.decode(rle) for rle in self.rles]
        return np.array(masks, bool).reshape(-1, *self.size)  # also where there are none

    def content(self) -> dict[str, Any]:
        objects = []
        for i, label in enumerate(self.classes.tolist()):
            one = {
                'class': label,
                'label': self.labels.name(label),
                'score': round(float(self.scores[i]), 6),
                'box': rounded(self.boxes[i]),
            }
            objects.append(one if self.rles is None else one | {'mask': plain_rle(self.rles[i])})
        return {'objects': objects}

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        found = []
        for i, (left, top, right, bottom) in enumerate(self.boxes.tolist()):
            one = {
                'image_id': image_id,
                'category_id': int(self.classes[i]),
                'bbox': [left, top, right - left, bottom - top],
                'score': float(self.scores[i]),
            }
            mask = {} if self.rles is None else {'segmentation': plain_rle(self.rles[i])}
            found.append(one | mask)
        return found

    def summary(self) -> str:
        numbers, counts = np.unique(self.classes, return_counts=True)
        order = np.argsort(-counts, kind='stable')
        return ', '.join(f'{counts[i]} {self.labels.name(numbers[i])}' for i in order) or 'nothing'


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentationResult(Result):
    """The class of every pixel.

    Attributes:
        class_map: Numbers of the classes, (H, W).
    """

    class_map: np.ndarray

    @cached_property
    def shares(self) -> dict[int, float]:
        """Share of the pixels by class, those that occur, the largest first."""
        most = int(self.class_map.max(initial=0)) + 1
        # Row by row: of all pixels, bincount would make a copy of eight bytes each.
        counts: np.ndarray = np.zeros(most, np.int64)
        for row in self.class_map:
            counts += np.bincount(row, minlength=most)
        order = np.argsort(-counts, kind='stable')
        return {int(i): float(counts[i] / self.class_map.size) for i in order if counts[i]}

    def rle(self, label: int) -> dict[str, Any]:
        """Returns where a class is, in COCO's compressed form."""
        return coco_mask.encode(np.asfortranarray(self.class_map == label, np.uint8))

    def content(self) -> dict[str, Any]:
        return {
            'classes': [
                {
                    'class': label,
                    'label': self.labels.name(label),
                    'share': round(share, 6),
                    'mask': plain_rle(self.rle(label)),
                }
                for label, share in self.shares.items()
            ]
        }

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        return [
            {
                'image_id': image_id,
                'category_id': label,
                'segmentation': plain_rle(self.rle(label)),
            }
            for label in self.shares
        ]

    def summary(self) -> str:
        pairs = self.shares.items()
        return ', '.join(f'{self.labels.name(label)} {share:.0%}' for label, share in pairs)


@dataclass(frozen=True, eq=False, kw_only=True)
class PoseResult(Result):
    """The keypoints of the people, or whatever has them, in an image.

    Attributes:
        keypoints: x and y in pixels of the image, (N, K, 2).
        keypoint_scores: (N, K).
        boxes: Where each was looked for, (N, 4), left, top, right and bottom.
        box_scores: (N,).
    """

    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    boxes: np.ndarray
    box_scores: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """A score each, (N,): that of its box times the mean of its keypoints."""
        return self.box_scores * self.keypoint_scores.mean(axis=1)

    def content(self) -> dict[str, Any]:
        people = []
        for i, points in enumerate(self.keypoints):
            pairs = enumerate(zip(points, self.keypoint_scores[i]))
            keypoints = [
                {'name': self.labels.keypoint(k), 'x': x, 'y': y, 'score': round(float(score), 6)}
                for k, ((x, y), score) in ((k, (rounded(p), score)) for k, (p, score) in pairs)
            ]
            box, score = rounded(self.boxes[i]), round(float(self.box_scores[i]), 6)
            people.append({'box': box, 'box_score': score, 'keypoints': keypoints})
        return {'people': people}

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        scored = np.concatenate([self.keypoints, self.keypoint_scores[..., None]], axis=2)
        return [
            {
                'image_id': image_id,
                'category_id': 1,  # COCO's person
                'keypoints': points.ravel().tolist(),  # (K, 3) -> (3 * K,)
                'score': float(score),
            }
            for points, score in zip(scored, self.scores)
        ]

    def summary(self) -> str:
        scores = ', '.join(f'{score:.2f}' for score in self.scores)
        return f'{len(self.keypoints)} found' + (f' ({scores})' if scores else '')


def rounded(numbers: np.ndarray) -> list[float]:
    """Returns pixels to a hundredth."""
    return [round(float(number), 2) for number in numbers]


def plain_rle(rle: dict[str, Any]) -> dict[str, Any]:
    """Returns a mask in COCO's compressed form with text for bytes."""
    return {'size': list(rle['size']), 'counts': rle['counts'].decode()}


def pick_color(palette: tuple[tuple[int, int, int], ...], number: int) -> tuple[int, int, int]:
    """Returns the colour of a number, RGB; beyond the palette, hues that lie far apart."""
    if number < len(palette):
        return palette[number]
    hue = number * 0.618 % 1  # by the golden ratio
    r, g, b = (np.clip(np.abs((hue * 6 + k) % 6 - 3) - 1, 0, 1) for k in (0, 4, 2))
    return int(40 + 200 * r), int(40 + 200 * g), int(40 + 200 * b)
