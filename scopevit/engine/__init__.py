"""Training and testing from a config, for every library; what the tools in `tools/` call."""

from scopevit.engine.run import test, train

__all__ = ['test', 'train']
