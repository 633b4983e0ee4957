"""Keep mmpretrain importable beside a transformers it does not know.

Symptom: `import mmpretrain.models`, and `mmdet.models` through it, ends in
`TypeError: NoneType takes no arguments`, where both transformers 5 and pycocotools are installed.

Versions: mmpretrain 1.2.0, transformers >= 5 (seen with 5.23). mmpretrain switches its multimodal
models on when it finds pycocotools and transformers >= 4.28, with no upper bound. Those models
import `apply_chunking_to_forward` and others from `transformers.modeling_utils`, which left
that module in version 5; a bare `except` turns the failure into `PreTrainedModel = None`, and
the class statement after it fails.

Way out: switch the multimodal models off where those names are missing, as mmpretrain does itself
where transformers is not installed: its placeholders say what to install when one is built. The
names could be put back, but behind them the models call much else that changed.

Delete when: mmpretrain bounds the version, or no longer imports the names.
"""

from typing import Any

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

WRITTEN_FOR = {'mmpretrain': '>=1.2,<1.3'}

# what the modules that fail take from transformers.modeling_utils
_NAMES = ('apply_chunking_to_forward', 'find_pruneable_heads_and_indices', 'prune_linear_layer')


def apply() -> None:
    """Corrects `WITH_MULTIMODAL` as soon as mmpretrain has computed it."""
    after_import('mmpretrain.utils.dependency', _correct)


def _correct(dependency: Any) -> None:
    if getattr(dependency, 'WITH_MULTIMODAL', False) and not _transformers_fits():
        dependency.WITH_MULTIMODAL = False
        record(__name__)


def _transformers_fits() -> bool:
    try:
        from transformers import modeling_utils
    except ImportError:
        # transformers is there and cannot be imported, say for want of one of its own needs
        return False
    return all(hasattr(modeling_utils, name) for name in _NAMES)
