"""Give `mmcv.ops` its operators without a compiled mmcv.

Symptom: with `mmcv-lite` (pure Python), `import mmcv.ops`, and with it `mmdet.models`, ends
in `ModuleNotFoundError: No module named 'mmcv._ext'`.

Versions: mmcv 2.0 to 2.1. The compiled `mmcv` has no wheel for torch > 2.4, and its source
does not build for torch >= 2.14 as it is (C++17 set, C++20 needed). mmcv-lite ships the Python
part of `mmcv/ops` and lacks only the extension.

Way out: a module `mmcv._ext` whose operators are torchvision's or plain torch, see
`standins/mmcv_ext`. A compiled extension, where there is one, is found first.

Delete when: mmcv (or a fork accepted by mmdet) has wheels for every torch we support.
"""

from scopevit.compat._standin import STANDINS, offer

WRITTEN_FOR = {'mmcv-lite': '>=2.0,<2.2'}


def apply() -> None:
    """Offers `mmcv._ext` to those who have none."""
    offer('mmcv._ext', STANDINS / 'mmcv_ext')
