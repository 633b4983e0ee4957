"""Loaded as `xtcocotools`: what mmpose uses of it, on pycocotools."""
