"""The task libraries, and what the tools must know of each."""

import importlib
from dataclasses import dataclass, field
from typing import Any

from scopevit.errors import InputError


@dataclass(frozen=True)
class Library:
    """What differs between the libraries.

    Attributes:
        name: Import name and `default_scope`.
        task: What it is for.
        visualizer: What draws predictions.
        visualization: Hook that draws predictions, switched on for every image.
        tta_model: Model that averages over test time augmentations, where a config names none; None
            where the library has no such model.
        show_dir_key: Setting of the folder for the drawings.
        dump_metric: Metric that writes the predictions of a test.
        package: What to tell pip to install it, where that is not its name.
        loader: What its own tool sets in loaders that say nothing of it.
    """

    name: str
    task: str
    visualizer: str
    visualization: dict[str, Any]
    tta_model: dict[str, Any] | None = None
    show_dir_key: str = 'default_hooks.visualization.out_dir'
    dump_metric: str = 'DumpResults'
    package: str = ''
    loader: dict[str, Any] = field(default_factory=dict)


# Modules that `pip install <module>` would not bring, or not in a version that fits.
FROM_INSTALL_SH = ('PIL', 'chumpy', 'cv2', 'mmcv', 'mmengine', 'xtcocotools', 'yaml')

LIBRARIES = {
    'mmpretrain': Library(
        'mmpretrain',
        task='classification',
        visualizer='UniversalVisualizer',
        visualization=dict(type='VisualizationHook', enable=True, interval=1),
        tta_model=dict(type='AverageClsScoreTTA'),
        loader=dict(
            pin_memory=True, persistent_workers=True, collate_fn=dict(type='default_collate')
        ),
    ),
    'mmdet': Library(
        'mmdet',
        task='detection',
        visualizer='DetLocalVisualizer',
        visualization=dict(type='DetVisualizationHook', draw=True),
        tta_model=dict(
            type='DetTTAModel',
            tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
        ),
        show_dir_key='default_hooks.visualization.test_out_dir',
        dump_metric='DumpDetResults',
    ),
    'mmseg': Library(
        'mmseg',
        task='segmentation',
        visualizer='SegLocalVisualizer',
        visualization=dict(type='SegVisualizationHook', draw=True, interval=1),
        tta_model=dict(type='SegTTAModel'),
        show_dir_key='visualizer.save_dir',
        package='mmsegmentation',
    ),
    'mmpose': Library(
        'mmpose',
        task='pose',
        visualizer='PoseLocalVisualizer',
        visualization=dict(type='PoseVisualizationHook', enable=True, interval=1),
        package='--no-deps mmpose==1.3.2',
    ),
}


def find_library(scope: str | None) -> Library:
    """Returns the library of a config's `default_scope`, all of its modules registered.

    Raises:
        InputError: If the scope is none of ours, or its library is not installed.
    """
    if not isinstance(scope, str) or scope not in LIBRARIES:  # a list is no key
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
    if root in LIBRARIES:
        package = LIBRARIES[root].package or root
        advice = f'pip install {package}, or tools/install.sh PYTHON for all'
    elif root in FROM_INSTALL_SH:
        advice = 'run tools/install.sh PYTHON (see README.md)'
    else:
        advice = f'pip install {root}'
    return InputError(f'{root} is not installed: {advice}')
