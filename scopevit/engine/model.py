"""The model of a config."""

from typing import Any

from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import MODELS
from mmengine.runner import load_state_dict
from torch import nn

from scopevit.engine.libraries import find_library
from scopevit.state_dict import strip_prefix


def build_model(cfg: Config) -> nn.Module:
    """Builds the model of a config for one process, which has BN where the config has SyncBN.

    It is on the CPU, in training mode, with random weights.
    """
    library = find_library(cfg.get('default_scope'))
    model = dict(cfg.model)
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with MODELS.switch_scope_and_registry(library.name) as registry:
        return revert_sync_batchnorm(registry.build(model))


def load_weights(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Gives a model the weights under `state_dict`, as mmengine does, which logs what differs."""
    load_state_dict(model, strip_prefix(checkpoint['state_dict'], 'module.'))


def unwrap_model(model: Any) -> nn.Module:
    """Returns the model inside of wrappers for several processes and for test time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
