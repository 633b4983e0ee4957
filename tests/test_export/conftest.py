"""Checkpoints to export."""

from test_inference.conftest import trained

__all__ = ['trained']
