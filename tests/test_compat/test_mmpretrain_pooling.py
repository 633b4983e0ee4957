"""mmpretrain's pooling neck takes what PVT of mmdet returns."""

import torch
from mmengine.registry import MODELS

from scopevit.engine.libraries import find_library


def test_pools_a_list_as_a_tuple():
    find_library('mmpretrain')
    with MODELS.switch_scope_and_registry('mmpretrain') as registry:
        neck = registry.build(dict(type='GlobalAveragePooling'))
    maps = [torch.arange(8.0).reshape(1, 2, 2, 2), torch.ones(1, 3, 1, 1)]
    pooled = neck(maps)
    assert [p.tolist() for p in pooled] == [[[1.5, 5.5]], [[1.0, 1.0, 1.0]]]
    assert all(torch.equal(a, b) for a, b in zip(pooled, neck(tuple(maps))))
    assert neck(maps[0]).tolist() == [[1.5, 5.5]]
