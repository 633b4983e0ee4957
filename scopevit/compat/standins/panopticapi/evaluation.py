"""Loaded as `panopticapi.evaluation`: panoptic quality (Kirillov et al., CVPR 2019)."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VOID = 0  # number of the pixels that are of no segment
OFFSET = 256**3  # above all numbers of segments


@dataclass
class PQStatCat:
    """Matched segments of a category, the sum of their IoU, and those without a match."""

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __iadd__(self, other: 'PQStatCat') -> 'PQStatCat':
        self.iou += other.iou
        self.tp += other.tp
        self.fp += other.fp
        self.fn += other.fn
        return self

    def qualities(self) -> dict[str, float]:
        """Returns panoptic, segmentation and recognition quality; 0 where there is no segment."""
        segments = self.tp + (self.fp + self.fn) / 2
        return {
            'pq': self.iou / segments if segments else 0.0,
            'sq': self.iou / self.tp if self.tp else 0.0,
            'rq': self.tp / segments if segments else 0.0,
        }


class PQStat:
    """The counts by category."""

    def __init__(self) -> None:
        self.pq_per_cat: defaultdict[int, PQStatCat] = defaultdict(PQStatCat)

    def __getitem__(self, category: int) -> PQStatCat:
        return self.pq_per_cat[category]

    def __iadd__(self, other: 'PQStat') -> 'PQStat':
        for category, counts in other.pq_per_cat.items():
            self.pq_per_cat[category] += counts
        return self

    def pq_average(
        self, categories: Mapping[int, Mapping[str, Any]], isthing: bool | None
    ) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
        """Averages over the categories that have segments.

        Args:
            categories: By number, with `isthing` 1 or 0.
            isthing: Those that are things, or stuff; None for all.

        Returns:
            The means `pq`, `sq`, `rq`, of 0 to 1, of `n` categories, all 0 where `n` is; then the
            qualities by category, 0 for one without segments.
        """
        chosen = [
            number
            for number, category in categories.items()
            if isthing is None or bool(category['isthing']) == isthing
        ]
        by_category = {number: self[number].qualities() for number in chosen}
        seen = [n for n in chosen if self[n].tp + self[n].fp + self[n].fn]
        means = {
            name: sum(by_category[n][name] for n in seen) / max(len(seen), 1)
            for name in ('pq', 'sq', 'rq')
        }
        return {**means, 'n': len(seen)}, by_category
