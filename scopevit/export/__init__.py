"""Export to other runtimes, each with the proof that it predicts the same."""

from scopevit.export.export import export_checkpoint

__all__ = ['export_checkpoint']
