"""Let mmengine download checkpoints without running code in them, and load `.safetensors`.

Symptom: `load_from`, or `init_cfg` of type `Pretrained`, runs what is pickled in a file that
it downloads; a `.safetensors` file ends in `_pickle.UnpicklingError`.

Versions: mmengine 0.10 downloads by `torch.hub.load_state_dict_from_url`, which up to torch 2.14
at least reads more than weights unless told otherwise, and gives local files to `torch.load`.

Way out: a loader of our own for both, by the list mmengine keeps for that, which knows as well the
`backbone://` that `tools/train.py --pretrained` writes into a config. What mmengine looks up in its
tables, as `torchvision://resnet50`, it loads by the function for `https://`.

Delete when: mmengine downloads with `weights_only=True` and reads `.safetensors` itself.
"""

from types import ModuleType
from typing import Any

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

WRITTEN_FOR = {'mmengine': '>=0.10,<0.11'}

_LOCAL_FILES = r'(?!.*://).*\.safetensors$'


def apply() -> None:
    """Registers the loader with mmengine."""
    after_import('mmengine.runner.checkpoint', _register)


def _register(checkpoint: ModuleType) -> None:
    schemes = ['http://', 'https://', 'backbone://', _LOCAL_FILES]
    checkpoint.CheckpointLoader.register_scheme(schemes, load_from_scopevit, force=True)
    vars(checkpoint)['load_from_http'] = load_from_scopevit
    record(__name__)


def load_from_scopevit(filename: str, map_location: object = None) -> dict[str, Any]:
    """Reads a checkpoint as mmengine's hooks expect it: weights alone are under `state_dict`.

    Tensors stay on the CPU until they are copied to a model, whatever `map_location` says.
    """
    from scopevit.checkpoint import read_checkpoint  # once the package is imported

    checkpoint: Any = read_checkpoint(filename)
    return checkpoint if 'state_dict' in checkpoint else {'state_dict': checkpoint}
