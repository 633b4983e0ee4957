"""ScopeViT for mmpretrain, mmdet, mmsegmentation and mmpose; importing it registers the model."""

from scopevit import compat

compat.apply()  # before anything below imports a library that needs it

from scopevit.hub import get_config, get_model, list_models  # noqa: E402
from scopevit.models import ScopeViT  # noqa: E402
from scopevit.version import __version__  # noqa: E402

__all__ = ['ScopeViT', '__version__', 'get_config', 'get_model', 'list_models']
