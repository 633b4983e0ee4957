"""ScopeViT for mmpretrain, mmdet, mmsegmentation and mmpose; importing it registers the model."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scopevit import compat, transforms
from scopevit.compat._after_import import after_import

compat.apply()  # before anything below imports a library that needs it

from scopevit.hub import get_config, get_model, list_models  # noqa: E402
from scopevit.models import ScopeViT  # noqa: E402
from scopevit.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from scopevit.inference import Predictor

__all__ = ['Predictor', 'ScopeViT', '__version__', 'get_config', 'get_model', 'list_models']


def register_in_timm(timm_models: ModuleType) -> None:
    """Makes `timm.create_model('scopevit_tiny')` known."""
    import_module('scopevit.models.timm_model')


after_import('timm.models', register_in_timm)
transforms.register()


def __getattr__(name: str) -> Any:
    """Imports `Predictor` when it is asked for: it needs mmcv and OpenCV, the backbone does not."""
    if name == 'Predictor':
        from scopevit.inference import Predictor

        return Predictor
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
