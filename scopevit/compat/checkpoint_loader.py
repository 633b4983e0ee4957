"""Let mmengine download checkpoints without running code in them, and load `.safetensors`.

Symptom: `load_from`, or `init_cfg` of type `Pretrained`, runs what is pickled in a file that
it downloads; a `.safetensors` file ends in `_pickle.UnpicklingError`.

Versions: mmengine 0.10 downloads by `torch.hub.load_state_dict_from_url`, which up to torch 2.14
at least reads more than weights unless told otherwise, and gives local files to `torch.load`.

Way out: a loader of our own for both, by the list mmengine keeps for that, and for `backbone://`,
which `tools/train.py --pretrained` writes into a config. What mmengine looks up in its tables, as
`torchvision://resnet50`, it loads by the one for `https://`.

Delete when: mmengine downloads with `weights_only=True` and reads `.safetensors` itself.
"""

from pathlib import Path
from types import ModuleType

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

WRITTEN_FOR = {'mmengine': '>=0.10,<0.11'}

_LOCAL_FILES = r'(?!.*://).*\.safetensors$'


def apply() -> None:
    """Registers the loaders with mmengine."""
    after_import('mmengine.runner.checkpoint', _register)


def _register(checkpoint: ModuleType) -> None:
    register = checkpoint.CheckpointLoader.register_scheme
    register(_LOCAL_FILES, load_from_safetensors, force=True)
    register(['http://', 'https://'], load_from_http, force=True)
    register('backbone://', load_from_backbone, force=True)
    vars(checkpoint)['load_from_http'] = load_from_http  # which the tables' loaders call
    record(__name__)


def load_from_safetensors(filename: str, map_location: object = None) -> object:
    """Reads a file as mmengine's hooks expect a checkpoint.

    Args:
        filename: A local `.safetensors` file.
        map_location: Not used: the tensors stay on the CPU until they are copied to a model.

    Returns:
        The tensors by name, under `state_dict`.
    """
    return {'state_dict': _read(Path(filename).expanduser())}


def load_from_http(filename: str, map_location: object = None, *_: object, **__: object) -> object:
    """Downloads a checkpoint, unless it is there, and reads it as data only.

    Args:
        filename: Its address.
        map_location: As above; mmengine has more arguments, of which none matters here.

    Returns:
        What was saved.
    """
    return _read(filename)


def load_from_backbone(filename: str, map_location: object = None) -> object:
    """Reads the backbone's weights alone, see `read_checkpoint`; arguments as above."""
    return _read(filename)


def _read(path: str | Path) -> object:
    from scopevit.checkpoint import read_checkpoint  # once the package is imported

    return read_checkpoint(path)
