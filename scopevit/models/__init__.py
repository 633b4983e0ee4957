from .scopevit import ScopeViT
from .sizes import ARCHS

__all__ = ['ARCHS', 'ScopeViT']
