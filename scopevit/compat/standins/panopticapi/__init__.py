"""Loaded as `panopticapi`: what mmdet uses of it."""
