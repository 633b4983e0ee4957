"""Checks of what a data set says of its classes and keypoints, before anything is loaded."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from scopevit.engine.checks.coco import CocoFile
from scopevit.engine.walk import type_name
from scopevit.errors import InputError

OF_POSES = ('dataset_name', 'keypoint_info', 'skeleton_info', 'joint_weights', 'sigmas')
NAMES_SHOWN = 5


def check_metainfo(cfg: dict[str, Any], key: str, scope: str) -> None:
    """Checks the metainfo in the config of a data set; `key` and `scope` as in `check_files`.

    Raises:
        InputError: If its classes are a text that is no file of names, or what mmpose needs of a
            set of poses is missing.
    """
    metainfo = cfg.get('metainfo') or {}
    # mmpretrain takes classes beside metainfo, too.
    places = (
        (f'{key}.metainfo.classes', metainfo.get('classes')),
        (f'{key}.classes', cfg.get('classes')),
    )
    for place, classes in places:
        # A file of names, perhaps on a server, is what the libraries take a text for.
        is_file = not isinstance(classes, str) or '://' in classes or Path(classes).is_file()
        if not is_file:
            raise InputError(
                f'{place} is the text {classes!r}, and no file of names is there: '
                f'a tuple of one name has a comma, ({classes!r},)'
            )
    missing = [name for name in OF_POSES if name not in metainfo]
    if scope == 'mmpose' and metainfo and 'from_file' not in metainfo and missing:
        raise InputError(
            f'{key}.metainfo has no {", ".join(missing)}: of poses, mmpose needs '
            f'{", ".join(OF_POSES)}, or from_file, a file that sets dataset_info to them'
        )


def check_categories(
    coco: CocoFile, classes: list[str], dataset_cfg: dict[str, Any], path: Path, key: str
) -> None:
    """Checks both ways that annotated categories are classes, since mmdet drops all others.

    Categories that shall be left out are named in `metainfo=dict(ignored_categories=(...))`.
    """
    names = coco.categories
    used = set(coco.used_categories)
    unknown = used - set(names)
    if unknown:
        raise InputError(f'category_id of an annotation is none of categories, {unknown}: {path}')
    absent = [name for name in classes if name not in names.values()]
    metainfo = dataset_cfg.get('metainfo') or {}
    if absent and 'classes' not in metainfo:
        raise InputError(
            f'{key} sets no metainfo, so its classes are the {len(classes)} of '
            f'{type_name(dataset_cfg)}, but {path} has {shown(names.values())}: set '
            f'metainfo=dict(classes={tuple_text(list(names.values()))})'
        )
    if absent:
        raise InputError(
            f'classes without a category: {shown(absent)}; {path} has {shown(names.values())}'
        )
    ignored = metainfo.get('ignored_categories', ())
    others = [names[i] for i in sorted(used) if names[i] not in (*classes, *ignored)]
    if others:
        raise InputError(
            f'annotated categories that are not among the classes: {shown(others)}: {path}; '
            'add them to metainfo.classes of the data set, or to metainfo.ignored_categories'
        )


def shown(names: Collection[str]) -> str:
    """Returns names for a message, the first few of many."""
    return ', '.join(map(str, list(names)[:NAMES_SHOWN])) + (
        ', ...' if len(names) > NAMES_SHOWN else ''
    )


def tuple_text(names: list[str]) -> str:
    """Returns the tuple of names to write into a config, the first few of many."""
    text = ', '.join(map(repr, names[:NAMES_SHOWN]))
    return f'({text}, ...)' if len(names) > NAMES_SHOWN else f'({text}{"," * (len(names) == 1)})'


def dataset_classes(cfg: dict[str, Any], scope: str) -> list[str]:
    """Returns the classes of a data set by its config or its type; none where they are unknown."""
    metainfo = cfg.get('metainfo') or {}
    if 'classes' not in metainfo:
        dataset_type = cfg.get('type')
        if isinstance(dataset_type, str):
            with DATASETS.switch_scope_and_registry(scope) as registry:
                dataset_type = registry.get(dataset_type)
        metainfo = getattr(dataset_type, 'METAINFO', {})
    classes = metainfo.get('classes') or ()
    # A string is the name of a file of names, which the library reads.
    return [] if isinstance(classes, str) else list(classes)
