"""ScopeViT for mmpretrain, mmdet, mmsegmentation and mmpose; importing it registers the model.

Nothing is imported before it is asked for: `scopevit.compat` is for others, too.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scopevit import compat, transforms
from scopevit.compat._after_import import after_import
from scopevit.version import __version__

if TYPE_CHECKING:
    from scopevit.hub import get_config, get_model, list_models
    from scopevit.inference import Predictor
    from scopevit.models import ScopeViT

__all__ = ['Predictor', 'ScopeViT', '__version__', 'get_config', 'get_model', 'list_models']

MODULES = {
    'Predictor': 'scopevit.inference',
    'ScopeViT': 'scopevit.models',
    'get_config': 'scopevit.hub',
    'get_model': 'scopevit.hub',
    'list_models': 'scopevit.hub',
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for."""
    if name in MODULES:
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def build_backbone(*args: Any, **kwargs: Any) -> 'ScopeViT':
    """Builds `ScopeViT`; its module, when imported, registers the class in place of this."""
    return import_module('scopevit.models').ScopeViT(*args, **kwargs)


def register_in_mmengine(root: ModuleType) -> None:
    """Makes configs know `type='ScopeViT'`."""
    root.MODELS.register_module(name='ScopeViT', module=build_backbone)


def register_in_timm(timm_models: ModuleType) -> None:
    """Makes `timm.create_model('scopevit_tiny')` known."""
    import_module('scopevit.models.timm_model')


compat.apply()
after_import('mmengine.registry.root', register_in_mmengine)
after_import('timm.models', register_in_timm)
transforms.register()
