"""Let mmpretrain's pooling neck take the list of maps that some backbones of mmdet return.

Symptom: a classifier with, say, `mmdet.PyramidVisionTransformer` ends in `TypeError: neck inputs
should be tuple or torch.tensor`.

Versions: mmpretrain 1.2, whose `GlobalAveragePooling` takes a tuple only; mmdet 3.3, whose PVT
returns a list.

Way out: the neck makes a tuple of a list.

Delete when: either library gives way.
"""

import functools
from types import ModuleType
from typing import TYPE_CHECKING

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

if TYPE_CHECKING:
    from torch import Tensor, nn

WRITTEN_FOR = {'mmpretrain': '>=1.2,<1.3', 'mmdet': '>=3.3,<3.4'}


def apply() -> None:
    """Makes the neck take a list as well."""
    after_import('mmpretrain.models.necks.gap', _accept_list)


def _accept_list(module: ModuleType) -> None:
    cls = module.GlobalAveragePooling
    forward = cls.forward

    @functools.wraps(forward)
    def forward_tuple(
        self: 'nn.Module', inputs: 'Tensor | tuple[Tensor, ...] | list[Tensor]'
    ) -> 'Tensor | tuple[Tensor, ...]':
        return forward(self, tuple(inputs) if isinstance(inputs, list) else inputs)

    cls.forward = forward_tuple
    record(__name__)
