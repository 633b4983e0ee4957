"""Loaded as `xtcocotools.cocoeval`: OKS evaluation with any keypoint set.

What it adds to pycocotools: the sigmas of the keypoints are an argument, the object area may be
estimated from the box, whether an object counts depends on its visible keypoints rather than on
`num_keypoints`, and a detection whose keypoint scores are all zero is left out.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import cocoeval
from pycocotools.coco import COCO

# The part of its box a person covers, on average; xtcocotools takes this number too, and CrowdPose
# and AIC, which have no area, are always reported with it.
AREA_OF_BOX = 0.53


class COCOeval(cocoeval.COCOeval):
    """Evaluates boxes, masks or keypoints.

    Args:
        cocoGt: Ground truth.
        cocoDt: Detections, from `cocoGt.loadRes`.
        iouType: `'keypoints'`, `'bbox'` or `'segm'`.
        sigmas: One per keypoint, the spread of its annotation relative to the object's size. By
            default those of the 17 COCO keypoints.
        use_area: Take the annotated area as object size; where False, or not annotated, 0.53 of the
            box is taken.

    Raises:
        NotImplementedError: For the iouTypes of CrowdPose and COCO-WholeBody.
    """

    def __init__(
        self,
        cocoGt: COCO | None = None,
        cocoDt: COCO | None = None,
        iouType: str = 'keypoints',
        sigmas: Sequence[float] | None = None,
        use_area: bool = True,
    ) -> None:
        if iouType not in ('keypoints', 'bbox', 'segm'):
            raise NotImplementedError(
                f'iouType {iouType!r} needs the package xtcocotools, which does not import here: '
                "scopevit replaces it for 'keypoints', 'bbox' and 'segm' only"
            )
        super().__init__(cocoGt, cocoDt, iouType)
        if sigmas is not None:
            self.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=float)
        self.use_area = use_area

    def _prepare(self) -> None:
        """Groups annotations and detections by image and category.

        Works on copies: the areas and flags set here are no business of the annotations, which
        the data set shares.
        """
        if self.params.iouType != 'keypoints':
            super()._prepare()
            return
        self.evalImgs: dict[Any, Any] = defaultdict(list)
        self.eval: dict[str, Any] = {}
        self._gts = defaultdict(list)
        self._dts = defaultdict(list)
        for gt in self._selected(self.cocoGt):
            gt = dict(gt, ignore=gt.get('iscrowd', 0) or not self._has_points(gt))
            if not self.use_area or 'area' not in gt:
                gt['area'] = gt['bbox'][2] * gt['bbox'][3] * AREA_OF_BOX
            self._gts[gt['image_id'], gt['category_id']].append(gt)
        for dt in self._selected(self.cocoDt):
            if self._has_points(dt):
                self._dts[dt['image_id'], dt['category_id']].append(dict(dt))

    def _selected(self, coco: COCO) -> list[dict[str, Any]]:
        p = self.params
        return coco.loadAnns(coco.getAnnIds(imgIds=p.imgIds, catIds=p.catIds if p.useCats else []))

    def _has_points(self, ann: dict[str, Any]) -> bool:
        """Whether any keypoint is visible (annotation) or has a score (detection).

        Raises:
            ValueError: If the number of keypoints is not that of the sigmas.
        """
        points, expected = len(ann['keypoints']) // 3, len(self.params.kpt_oks_sigmas)
        if points != expected:
            raise ValueError(f'{points} keypoints, but {expected} sigmas')
        return any(value > 0 for value in ann['keypoints'][2::3])
