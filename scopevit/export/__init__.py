"""Export to other runtimes, each with the proof that it predicts the same."""

from scopevit.export.export import ENDINGS, export_checkpoint

__all__ = ['ENDINGS', 'export_checkpoint']
