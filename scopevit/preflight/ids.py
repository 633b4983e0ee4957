"""Ids and keys of COCO's files: what the libraries and the evaluation take for granted."""

from collections.abc import Iterator

import numpy as np

from scopevit.engine.checks.coco import repeated
from scopevit.engine.checks.ids import id_problems
from scopevit.preflight.findings import Finding
from scopevit.preflight.samples import SHOWN_FILES, Part


def check_ids(part: Part) -> Iterator[Finding]:
    """Yields what is wrong with the ids of a COCO file."""
    coco = part.coco
    if coco is None:
        return
    for problem in id_problems(coco, part.ann_file, part.scope, part.split != 'train'):
        yield Finding('error', problem.what, part.split, problem.number, problem.text)
    twice = repeated([name for name in coco.file_names if name])
    if twice:
        text = f'{part.ann_file}: {twice[0]} is the file_name of two images'
        yield Finding('warning', 'images named twice', part.split, len(twice), text)
    alone = np.flatnonzero(coco.owners < 0)
    if len(alone):
        row = alone[0]
        text = (
            f'{part.ann_file}: image_id {coco.image_refs[row]} of annotation {coco.ids[row]} is '
            'none of images; it is left out'
        )
        yield Finding('warning', 'annotations of no image', part.split, len(alone), text)
    if 0 in coco.ids:
        text = (
            f'{part.ann_file}: an annotation has id 0, which the evaluation takes for no match: '
            'number from 1 on'
        )
        yield Finding('warning', 'annotation id 0', part.split, 1, text)
    if coco.used_categories - set(coco.categories):
        unknown = [i for i, key in enumerate(coco.category_ids) if key not in coco.categories]
        row = unknown[0]
        text = (
            f'{part.ann_file}: category_id {coco.category_ids[row]} of annotation '
            f'{coco.ids[row]} is none of categories'
        )
        yield Finding('error', 'unknown category_id', part.split, len(unknown), text)
    yield from check_keys(part)


def check_keys(part: Part) -> Iterator[Finding]:
    """Yields keys that are lacking, and that code reads which users never see."""
    coco = part.coco
    if coco is None:
        return
    blank = np.flatnonzero(~(np.nan_to_num(coco.sizes) > 0).all(1))
    if len(blank):
        text = (
            f'{part.ann_file}: image {coco.image_ids[blank[0]]} has no width and height, which '
            f'{part.scope} reads: add them'
        )
        yield Finding('error', 'no width or height', part.split, len(blank), text)
    nameless = [i for i, name in zip(coco.image_ids, coco.file_names) if not name]
    if nameless:
        text = f'{part.ann_file}: image {nameless[0]} has no file_name'
        yield Finding('error', 'no file_name', part.split, len(nameless), text)
    if part.scope == 'mmdet' and coco.lacking.get('area'):
        text = f'{part.ann_file}: annotations have no area, which mmdet reads: add it'
        yield Finding('error', 'no area', part.split, coco.lacking['area'], text)


def check_annotated(part: Part) -> Iterator[Finding]:
    """Yields whether anything is annotated, and images where nothing is."""
    if not part.files:
        text = f'{part.ann_file or part.key} has no images'
        yield Finding('error', 'no images', part.split, 1, text)
        return
    if part.scope == 'mmseg' or part.cfg.get('bbox_file'):
        return
    if part.split == 'test' and part.coco is not None and 'annotations' not in part.coco.keys:
        return  # evaluated elsewhere
    if part.scope == 'mmpretrain' and part.split == 'train' and not len(part.owners):
        return  # some learn without labels
    counts = ~part.crowds if part.crowds is not None else np.ones(len(part.owners), bool)
    counts = counts & (part.labels >= 0)
    verb = 'learn' if part.split == 'train' else 'compare with'
    source = part.ann_file or part.key
    if not len(part.owners):
        text = f'{source}: no image has an annotation: there is nothing to {verb}'
        yield Finding('error', 'no annotations', part.split, len(part.files), text)
    elif not counts.any():
        cause = 'is a crowd (iscrowd, ignore)' if part.crowds is not None else 'has no class'
        text = f'{source}: every annotation {cause}: there is nothing to {verb}'
        yield Finding('error', 'no annotation counts', part.split, len(part.owners), text)
    else:
        bare = np.setdiff1d(np.arange(len(part.files)), part.owners)
        if len(bare):
            files = tuple(part.files[i] for i in bare[:SHOWN_FILES])
            text = f'{files[0]} has no annotation'
            yield Finding('note', 'images without annotation', part.split, len(bare), text, files)
