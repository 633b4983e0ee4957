"""A compiled training step may set meta information that holds arrays of numpy."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from scopevit.compat import compiled_training


@pytest.fixture
def runner(monkeypatch):
    """A runner whose training step moves its samples, as the libraries' data preprocessors do."""
    monkeypatch.setattr(BaseDataElement, 'set_metainfo', BaseDataElement.set_metainfo)
    compiled_training._leave_out_meta_information.cache_clear()
    torch.compiler.reset()

    class Runner:
        def __init__(self, **cfg):
            self.cfg = cfg

        def _maybe_compile(self, target):
            self.target = target

    compiled_training._wrap_runner(SimpleNamespace(Runner=Runner))
    yield Runner
    compiled_training._leave_out_meta_information.cache_clear()
    torch.compiler.reset()


def step(sample, x):
    sample.set_metainfo(dict(center=sample.center, scale=np.int64(3)))
    return x * 2


@pytest.mark.parametrize('compile', [True, {}])
def test_a_step_with_arrays(runner, compile, acted):
    run = runner(compile=compile)
    assert acted == []
    run._maybe_compile('train_step')
    assert run.target == 'train_step'
    sample = BaseDataElement(metainfo=dict(center=np.array([1.0, 2.0])))
    out = torch.compile(step, backend='eager')(sample, torch.ones(2))
    assert out.tolist() == [2, 2]
    assert sample.center.tolist() == [1, 2]
    assert isinstance(sample.center, np.ndarray)
    assert sample.scale == 3
    assert acted == ['compiled_training']


@pytest.mark.parametrize('cfg', [{}, {'compile': False}])
def test_nothing_changes_without_the_switch(runner, cfg, acted):
    before = BaseDataElement.set_metainfo
    run = runner(**cfg)
    run._maybe_compile('train_step')
    assert run.target == 'train_step'
    assert BaseDataElement.set_metainfo is before and acted == []
