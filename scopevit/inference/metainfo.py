"""What is known of classes and keypoints where a checkpoint says nothing of them."""

from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATASETS

from scopevit.engine.libraries import Library
from scopevit.errors import InputError
from scopevit.inference.stored_config import registered_name


def config_metainfo(
    dataset: Mapping[str, Any], library: Library, source: str, trusted: bool
) -> dict[str, Any]:
    """Returns what the config of a data set and its registered type say of the classes.

    Args:
        dataset: The config.
        library: Its library.
        source: Where it came from, for messages.
        trusted: Whether it may name files, which are run as Python code.

    Raises:
        InputError: If it is one of poses, and neither says what the keypoints are.
    """
    given = dict(dataset.get('metainfo') or {})
    if library.name == 'mmpose':
        return pose_metainfo(
            given or type_metainfo(dataset, library, source), given, source, trusted
        )
    found = type_metainfo(dataset, library, source) | given
    if dataset.get('classes') and 'classes' not in given:  # mmpretrain takes them there, too
        found['classes'] = dataset['classes']
    if not isinstance(found.get('classes'), (list, tuple)):  # the name of a file of names
        found.pop('classes', None)
    return found


def type_metainfo(dataset: Mapping[str, Any], library: Library, source: str) -> dict[str, Any]:
    """Returns what the type of a data set says of its classes; nothing where it is unknown."""
    kind = dataset.get('type')
    if isinstance(kind, str):
        try:
            name = registered_name(kind, source)
        except InputError:  # prediction needs no data set
            return {}
        with DATASETS.switch_scope_and_registry(library.name) as registry:
            kind = registry.get(name)
    return dict(getattr(kind, 'METAINFO', {}))


def pose_metainfo(
    metainfo: dict[str, Any], given: dict[str, Any], source: str, trusted: bool
) -> dict[str, Any]:
    """Returns what mmpose makes of the description of a set of poses; `given` is the config's."""
    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    missing = 'the checkpoint has no dataset_meta, which says what the keypoints are'
    if given.get('from_file') and not trusted:
        raise InputError(
            f'{source}: {missing}, and the config has it from {given["from_file"]}, a file that is '
            'run as code; name a config file that you trust by --config'
        )
    try:
        return dict(parse_pose_metainfo(metainfo))
    except (AssertionError, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f'{source}: {missing}, nor have metainfo or type of the data set of its test'
        ) from error
