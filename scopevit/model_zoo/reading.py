"""From a config file to a model that needs no download."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from scopevit.engine.walk import type_name
from scopevit.files import to_json

# Keys whose values are names or files of weights, which have these endings under other keys.
WEIGHTS = ('pretrained', 'checkpoint', 'load_from')
ENDINGS = ('.pth', '.pth.tar', '.pt', '.pkl')
# Models whose `init_weights` fails without a file; their layers start as torch makes them.
NO_START = ('MultimodalEncoderDecoder',)
# What decides, besides the model, what is fed to it.
INPUTS = ('default_scope', 'data_preprocessor', 'codec', 'train_pipeline', 'val_pipeline',
          'test_pipeline', 'train_dataloader', 'val_dataloader')  # fmt: skip


def read_model_config(path: Path) -> Config:
    """Reads a config and takes the files of weights out of it, which nobody downloads here."""
    cfg = Config.fromfile(path)
    if cfg.get('model') is None:
        return cfg
    if cfg.get('data_preprocessor'):  # as the Runner does
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    drop_weights(cfg.model)
    return cfg


def drop_weights(value: Any) -> None:
    """Takes the references to weights out of a config, in place."""
    if isinstance(value, dict):
        if is_pretrained(value.get('init_cfg')):
            del value['init_cfg']
        for key, item in value.items():
            if key in WEIGHTS and isinstance(item, bool):  # timm's and torchvision's
                value[key] = False
            elif isinstance(item, str) and (key in WEIGHTS or item.endswith(ENDINGS)):
                value[key] = None
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, (dict, list, tuple)):
            drop_weights(item)


def is_pretrained(init_cfg: Any) -> bool:
    """Whether an `init_cfg`, or one of its list, reads weights from a file."""
    items = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    return any(
        isinstance(item, dict) and type_name(item) in ('Pretrained', 'PretrainedInit')
        for item in items
    )


def fingerprint(cfg: Config) -> str:
    """Returns a text that two configs share only if they have one model and one kind of inputs."""
    parts = {key: cfg.get(key) for key in ('model', *INPUTS)}
    if cfg.get('default_scope') in ('mmdet', 'mmseg'):  # whose inputs are made by the model alone
        parts = {key: parts[key] for key in ('model', 'default_scope', 'data_preprocessor')}
    text = json.dumps(to_json(parts), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def build_model(cfg: Config) -> BaseModel:
    """Builds and initialises the model of a config, as the Runner does on one CPU."""
    init_default_scope(cfg.default_scope)
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        model = registry.build(cfg.model)
        if type_name(cfg.model) not in NO_START:
            model.init_weights()
    return revert_sync_batchnorm(model)
