"""Mixed precision on the CPU."""

import pytest
import torch
from torch import nn

from scopevit.engine.amp import CPUAmpOptimWrapper
from scopevit.errors import InputError


def test_amp_on_the_cpu_runs_the_backbone_in_bfloat16():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Backbone()

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1, bias=False)
            nn.init.ones_(self.layer.weight)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.layer(x),)

    model = Model()
    wrapper = CPUAmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=1))
    # Between 1 and 2, bfloat16 knows steps of 1 / 128.
    x = torch.tensor([[1 + 1 / 1024]])
    with wrapper.optim_context(model):
        (out,) = model.backbone(x)
    assert out.dtype == torch.float32
    assert out.item() == 1
    assert model.backbone(x)[0].item() == 1 + 1 / 1024


def test_amp_on_the_cpu_needs_a_backbone():
    model = nn.Linear(1, 1)
    wrapper = CPUAmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=1))
    with pytest.raises(InputError, match='Linear has no backbone'), wrapper.optim_context(model):
        pass
