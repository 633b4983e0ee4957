"""The configs that come with the package, and their models, by name."""

import difflib
import fnmatch
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from scopevit.compat.external_configs import CONFIGS
from scopevit.errors import InputError


def list_models(pattern: str = '*') -> list[str]:
    """Returns the names of the configs of models, in alphabetical order.

    Args:
        pattern: Only those that match, as `mask-rcnn_*`.
    """
    return sorted(fnmatch.filter((path.stem for path in config_files()), pattern))


def get_config(name: str) -> Config:
    """Returns the config of a model.

    Args:
        name: Name of a config, `scopevit-tiny_8xb128_in1k`, or its path in the folder of configs,
            `classification/scopevit-tiny_8xb128_in1k.py`.

    Raises:
        InputError: If there is no such config; the message names similar ones.
    """
    from scopevit.engine.config import read_config  # imports the runner, mmcv and OpenCV

    return read_config(find_config(name))


def get_model(name: str, pretrained: str | Path | None = None) -> nn.Module:
    """Builds the model of a config, by the library of the config.

    Args:
        name: As in `get_config`.
        pretrained: Checkpoint of the whole model, a file or URL. Without it, the weights are
            random; `model.init_weights()` makes them those a training begins with.

    Returns:
        The model, on the CPU, in training mode, with BN where the config has SyncBN.

    Raises:
        InputError: If there is no such config, or the checkpoint cannot be read or does not fit.
    """
    from scopevit.engine.checks.weights import check_model_weights, read_weights
    from scopevit.engine.model import build_model, load_weights

    model: Any = build_model(get_config(name))
    if pretrained is None:
        return model
    checkpoint = read_weights(pretrained)
    check_model_weights(model, checkpoint, pretrained)
    load_weights(model, checkpoint)
    model.is_init = True  # else mmengine's Runner would start from new weights
    return model


def find_config(name: str) -> Path:
    """Returns the file of a config, see `get_config`."""
    paths = [path.relative_to(CONFIGS) for path in config_files()]
    wanted = name.removesuffix('.py')
    found = [path for path in paths if wanted in (path.stem, path.with_suffix('').as_posix())]
    if len(found) == 1:
        return CONFIGS / found[0]
    if found:
        raise InputError(f'{name} is the name of {", ".join(map(str, found))}: give the path')
    known = [path.with_suffix('').as_posix() if '/' in name else path.stem for path in paths]
    near = difflib.get_close_matches(wanted, known)
    advice = f'did you mean {", ".join(near)}?' if near else 'scopevit.list_models() has the names'
    raise InputError(f'no config {name}; {advice}')


def config_path(config: str | Path) -> Path:
    """Returns a config file as it is given, or finds it by a name as in `get_config`.

    Raises:
        InputError: If it is no file, has no suffix as one has, and no config has that name.
    """
    path = Path(config)
    return path if path.exists() or path.suffix else find_config(str(config))


def config_files() -> list[Path]:
    """Returns the files of all configs but those that exist to be inherited."""
    paths = CONFIGS.rglob('*.py')
    return [path for path in paths if '_base_' not in path.relative_to(CONFIGS).parts]
