"""The model of a config."""

from torch import nn

from scopevit.engine.environment import count_parameters
from scopevit.engine.model import unwrap_model


def test_unwrapping_a_model():
    model = nn.Identity()
    assert unwrap_model(model) is model


def test_parameters_of_a_model_without_backbone():
    assert count_parameters(nn.Linear(2, 1)) == {'total': 3}
