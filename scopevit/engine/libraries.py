"""The task libraries, and what the tools must know of each."""

import importlib
from dataclasses import dataclass

from scopevit.errors import InputError


@dataclass(frozen=True)
class Library:
    """What differs between the libraries.

    Attributes:
        name: Import name and `default_scope`.
        package: Name to install it by.
        dump_metric: Metric that writes the predictions of a test.
        visualizer: What draws predictions.
        visualization: Hook that draws predictions, switched on for every image.
        show_dir_key: Setting of the folder for the drawings.
    """

    name: str
    package: str
    dump_metric: str
    visualizer: str
    visualization: dict
    show_dir_key: str


LIBRARIES = {
    library.name: library
    for library in (
        Library(
            'mmpretrain',
            'mmpretrain',
            'DumpResults',
            'UniversalVisualizer',
            dict(type='VisualizationHook', enable=True, interval=1),
            'default_hooks.visualization.out_dir',
        ),
        Library(
            'mmdet',
            'mmdet',
            'DumpDetResults',
            'DetLocalVisualizer',
            dict(type='DetVisualizationHook', draw=True),
            'default_hooks.visualization.test_out_dir',
        ),
        Library(
            'mmseg',
            'mmsegmentation',
            'DumpResults',
            'SegLocalVisualizer',
            dict(type='SegVisualizationHook', draw=True, interval=1),
            'visualizer.save_dir',
        ),
        Library(
            'mmpose',
            'mmpose',
            'DumpResults',
            'PoseLocalVisualizer',
            dict(type='PoseVisualizationHook', enable=True, interval=1),
            'default_hooks.visualization.out_dir',
        ),
    )
}


def find_library(scope: str | None) -> Library:
    """Returns the library of a config's `default_scope`, all of its modules registered.

    Args:
        scope (str | None): `default_scope` of the config.

    Raises:
        InputError: If the scope is none of ours, or its library is not installed.
    """
    if scope not in LIBRARIES:
        raise InputError(f'default_scope must be one of {", ".join(LIBRARIES)}, not {scope!r}')
    library = LIBRARIES[scope]
    try:
        utils = importlib.import_module(f'{library.name}.utils')
        utils.register_all_modules(init_default_scope=False)
    except ModuleNotFoundError as error:
        raise missing_module(error) from error
    return library


def missing_module(error: ModuleNotFoundError) -> InputError:
    """Says what to install for a module that is not there."""
    # mmengine names no module in the error, but begins its message with it.
    root = (error.name or str(error).split()[0]).partition('.')[0]
    package = LIBRARIES[root].package if root in LIBRARIES else root
    return InputError(f'{root} is not installed: pip install {package}')
