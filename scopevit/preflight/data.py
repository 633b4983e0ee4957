"""All checks of the data of a config."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from mmengine.config import Config

from scopevit.engine.checks.coco import forget_files
from scopevit.engine.checks.data import check_files
from scopevit.errors import InputError, error_text
from scopevit.preflight import boxes, classes, ids, images, keypoints, label_maps, metrics
from scopevit.preflight.anchors import check_sizes
from scopevit.preflight.files import Opened, open_files
from scopevit.preflight.findings import Finding, merge
from scopevit.preflight.samples import SPLITS, Part, object_sizes, read_parts, split_configs

FILES = 'files'  # what is missing, or is none of a data set's, by its first


@dataclass
class DataReport:
    """What was found in the data.

    Attributes:
        findings: Errors first.
        parts: Data sets without wrappers.
        counts: Annotations of each class by split, (C,); label maps that have it, in segmentation.
        opened: Images by path; none after a quick check.
    """

    findings: list[Finding]
    parts: list[Part]
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    opened: dict[str, Opened] = field(default_factory=dict)

    def class_table(self) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
        """Returns the classes of the first split that was counted, and the counts of those too."""
        for part in self.parts:
            if part.split in self.counts:
                names = part.classes
                return names, {s: n for s, n in self.counts.items() if len(n) == len(names)}
        return (), {}


def check_data(cfg: Config, splits: tuple[str, ...] = SPLITS, quick: bool = False) -> DataReport:
    """Checks the data sets of a config, of a library whose modules are registered.

    Args:
        cfg: The config.
        splits: Of 'train', 'val' and 'test', those to look at.
        quick: Whether to leave image files closed, but for a few label maps.
    """
    findings: list[Finding] = []
    parts: list[Part] = []
    try:
        for split, dataset in split_configs(cfg, splits):
            findings += checked_files(cfg, split)
            for read in read_parts(split, dataset, cfg.default_scope):
                if isinstance(read, Finding):
                    findings.append(read)
                else:
                    read.classes = read.classes or classes.numbered(cfg.model)
                    parts.append(read)
        report = DataReport(findings, parts)
        if quick:
            maps = {file: opened for p in parts for file, opened in label_maps.open_few(p).items()}
        else:
            maps = open_files((file for part in parts for file in part.maps), as_maps=True)
            report.opened = open_files(file for part in parts for file in part.files if file)
        for part in parts:
            findings += check_part(part, report.opened, maps)
            if part.maps and not quick:
                label_maps.fill_from_maps(part, maps)
        findings += check_splits(report, quick)
        findings += metrics.check_metrics(cfg, parts)
        if not any(found.what in boxes.OTHER_NUMBERS for found in findings):
            findings += check_sizes(*object_sizes(parts, 'train'), cfg)
    finally:
        forget_files()
    report.findings = merge(drop_repeated(findings))
    return report


def checked_files(cfg: Config, split: str) -> Iterator[Finding]:
    """Yields what the checks of every training say of the files of a split."""
    try:
        check_files(cfg, split)
    except InputError as error:
        yield Finding('error', FILES, split, 1, error_text(error))


def check_part(part: Part, opened: dict[str, Opened], maps: dict[str, Opened]) -> Iterator[Finding]:
    """Yields what is wrong with a part by itself."""
    yield from ids.check_ids(part)
    yield from images.check_missing(part)
    yield from ids.check_annotated(part)
    yield from boxes.check_boxes(part)
    yield from boxes.check_filter(part)
    yield from keypoints.check_keypoints(part)
    yield from classes.check_labels(part)
    yield from classes.check_names(part)
    yield from label_maps.check_maps(part, maps, opened)
    if opened:
        yield from images.check_opened(part, opened)


def check_splits(report: DataReport, quick: bool) -> Iterator[Finding]:
    """Yields what is wrong between the splits, and fills in the counts of classes."""
    parts = report.parts
    yield from classes.check_order(parts)
    yield from images.check_same_annotations(parts)
    if not quick or not any(part.maps for part in parts):
        report.counts = count_classes(parts)
        moved = [found.where for found in report.findings if found.what == label_maps.REDUCED]
        counts = {split: n for split, n in report.counts.items() if split not in moved}
        yield from classes.check_occurrence(counts, parts)
    if quick:
        return
    yield from images.check_unnamed(parts)
    yield from images.check_sizes_alike(parts, report.opened)
    yield from images.check_copies(parts, report.opened)


def count_classes(parts: list[Part]) -> dict[str, np.ndarray]:
    """Returns the annotations of each class by split, where all parts have the same classes."""
    counts: dict[str, np.ndarray] = {}
    for split in dict.fromkeys(part.split for part in parts):
        own = [part for part in parts if part.split == split]
        lengths = {len(part.classes) for part in own}
        if len(lengths) == 1 and lengths != {0}:
            counts[split] = np.sum([part.counts() for part in own], axis=0)
    return counts


def drop_repeated(findings: list[Finding]) -> list[Finding]:
    """Leaves out what a later check says in the same words, as of a file that cannot be read."""
    first: dict[tuple[str, str], Finding] = {}
    for found in findings:
        first.setdefault((found.where, found.text), found)
    return list(first.values())
