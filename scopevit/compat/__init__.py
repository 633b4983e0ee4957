"""Every adaptation to newer torch, numpy or setuptools, or to a missing compiler, one file each.

Each module says what fails without it, in which versions, and when it can be deleted; each finds
out by itself whether it is needed and does nothing otherwise. Nothing outside this package
checks a version.
"""

from scopevit.compat import (
    checkpoint_loader,
    compiled_training,
    external_configs,
    find_loader,
    mmcv_ext,
    mmpose_visualizer,
    mmpretrain,
    mmpretrain_pooling,
    pkg_resources,
    torch_load,
    xtcocotools,
)

acted: list[str] = []


def apply() -> None:
    """Applies what is needed; calling it again changes nothing.

    Imports none of OpenMMLab's libraries (of the others concerned, xtcocotools alone, to see if it
    works), so it may come before or after ``import mmengine``, ``mmcv`` or ``mmdet``, but before
    ``mmcv.ops``, ``mmdet.models`` or ``mmpose``.
    """
    pkg_resources.apply()
    find_loader.apply()
    torch_load.apply()
    checkpoint_loader.apply()
    external_configs.apply()
    mmcv_ext.apply()
    xtcocotools.apply()
    mmpretrain.apply()
    mmpretrain_pooling.apply()
    mmpose_visualizer.apply()
    compiled_training.apply()
