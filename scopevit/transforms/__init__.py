"""Steps of the recipes' pipelines that give the samples of the libraries' own steps, faster.

Each is a library's step of the same name with `scopevit/` before it, takes the same arguments, and
draws the same random numbers. They are registered once the library's own are imported.
"""

from types import ModuleType

from scopevit.compat._after_import import after_import


def register_in_mmpretrain(_: ModuleType) -> None:
    """Registers the steps of classification."""
    import scopevit.transforms.classification  # noqa: F401


def register_in_mmdet(_: ModuleType) -> None:
    """Registers the steps of detection."""
    import scopevit.transforms.detection  # noqa: F401


def register_in_mmseg(_: ModuleType) -> None:
    """Registers the steps of segmentation."""
    import scopevit.transforms.segmentation  # noqa: F401


def register() -> None:
    """Lets the libraries know the steps, without importing the libraries."""
    after_import('mmpretrain.datasets.transforms', register_in_mmpretrain)
    after_import('mmdet.datasets.transforms', register_in_mmdet)
    after_import('mmseg.datasets.transforms', register_in_mmseg)
