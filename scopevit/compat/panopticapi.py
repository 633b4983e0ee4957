"""Stand in for `panopticapi`, which mmdet's panoptic data sets and metric import.

Symptom: a panoptic config of mmdet ends in `panopticapi is not installed`.

Versions: all. The authors' package is on no index, only in a Git repository; `panopticapi-lite` on
PyPI is a copy that declares numpy 1.

Way out: `standins/panopticapi` has the names mmdet uses. An installed panopticapi wins.

Delete when: the authors' package is on PyPI, or mmdet does without.
"""

from scopevit.compat._standin import STANDINS, offer

WRITTEN_FOR = {'mmdet': '>=3.3,<3.4'}


def apply() -> None:
    """Offers `panopticapi` where there is none."""
    offer('panopticapi', STANDINS / 'panopticapi')
