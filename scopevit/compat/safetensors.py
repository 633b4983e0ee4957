"""Let mmengine load weights from `.safetensors` files.

Symptom: `load_from`, or `init_cfg` of type `Pretrained`, with such a file ends in
`_pickle.UnpicklingError`.

Versions: mmengine 0.10 gives every local file to `torch.load`.

Way out: a loader of our own for these names, by the list mmengine keeps for that.

Delete when: mmengine reads them itself.
"""

from pathlib import Path
from types import ModuleType

from safetensors.torch import load_file
from torch import Tensor

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

WRITTEN_FOR = {'mmengine': '>=0.10,<0.11'}

# Not URLs: mmengine downloads those.
_LOCAL_FILES = r'(?!.*://).*\.safetensors$'


def apply() -> None:
    """Registers the loader with mmengine."""
    after_import('mmengine.runner.checkpoint', _register)


def _register(checkpoint: ModuleType) -> None:
    checkpoint.CheckpointLoader.register_scheme(_LOCAL_FILES, load_from_safetensors, force=True)
    record(__name__)


def load_from_safetensors(
    filename: str, map_location: object = None
) -> dict[str, dict[str, Tensor]]:
    """Reads a file as mmengine's hooks expect a checkpoint.

    Args:
        filename: A local `.safetensors` file.
        map_location: Not used: the tensors stay on the CPU until they are copied to a model.

    Returns:
        The tensors by name, under `state_dict`.
    """
    return {'state_dict': load_file(Path(filename).expanduser())}
