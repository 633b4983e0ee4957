"""Every adaptation to newer torch, numpy or setuptools, or to a missing compiler, one file each.

Each shim says what fails without it, in which versions, what it does about it, and when it can be
deleted. It finds out by itself whether it is needed and does nothing otherwise; where it acts, it
records its name. `WRITTEN_FOR` names the libraries whose code it relies on, and their versions.
Nothing outside this package checks a version.
"""

from importlib import import_module

from scopevit.compat._acted import acted

__all__ = ['SHIMS', 'acted', 'apply']

NAMES = (
    # Modules that are missing come first: a shim after them may import what imports these, as
    # xtcocotools does to see whether it works, and mmpretrain where that library was imported.
    'pkg_resources',
    'find_loader',
    'mmcv_ext',
    'xtcocotools',
    'panopticapi',
    # The others change what is there, from the library that the rest builds on to the tasks'.
    'torch_load',
    'checkpoint_loader',
    'yaml_loader',
    'external_configs',
    'unused_imports',
    'compiled_training',
    'mmpretrain',
    'mmpretrain_pooling',
    'mmcv_hue',
    'mmpose_visualizer',
)
SHIMS = [import_module(f'{__name__}.{name}') for name in NAMES]


def apply() -> list[str]:
    """Applies what is needed; calling it again changes nothing.

    Imports no library, and neither torch nor numpy (xtcocotools alone, where it is installed, to
    see if it works), so it may come before or after `import mmengine`, `mmcv` or `mmdet`, but
    before `mmcv.ops`, `mmdet.models` or `mmpose`.

    Returns:
        The shims that have acted so far. Most act when a library is imported or asks for a module;
        `acted` goes on to list them, in the order in which they do.
    """
    for shim in SHIMS:
        shim.apply()
    return list(acted)
