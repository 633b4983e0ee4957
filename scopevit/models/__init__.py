from .scopevit import ARCHS, ScopeViT

__all__ = ['ARCHS', 'ScopeViT']
