"""The model of a config."""

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import nn

from scopevit.engine.libraries import find_library


def build_model(cfg: Config) -> nn.Module:
    """Builds the model of a config for one process, which has BN where the config has SyncBN.

    Args:
        cfg: Config with `model`, and perhaps a `data_preprocessor` beside it.

    Returns:
        The model, on the CPU, in training mode, with random weights.
    """
    library = find_library(cfg.get('default_scope'))
    model = dict(cfg.model)
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with MODELS.switch_scope_and_registry(library.name) as registry:
        return revert_sync_batchnorm(registry.build(model))
