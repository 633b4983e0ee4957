"""Loaded as `xtcocotools.coco`."""

import json
from pathlib import Path
from typing import Any

from pycocotools import coco

__all__ = ['COCO']


class COCO(coco.COCO):
    """pycocotools' class; results may be empty, as of a one-stage network that finds nobody yet."""

    def loadRes(self, resFile: Any) -> coco.COCO:
        """Returns results, a list or the path of a JSON file of one, as annotations."""
        results = json.loads(Path(resFile).read_text()) if isinstance(resFile, str) else resFile
        if not isinstance(results, list) or results:
            return super().loadRes(results)
        found = coco.COCO()
        found.dataset = {**self.dataset, 'annotations': []}
        found.createIndex()
        return found
