"""Let `torch.load` read the checkpoints mmengine itself writes.

Symptom: resuming ends in `_pickle.UnpicklingError: Weights only load failed ... Unsupported
global: GLOBAL mmengine.logging.history_buffer.HistoryBuffer`, then the same for `getattr` and
for numpy.

Versions: torch >= 2.6, where `torch.load` reads weights only unless told otherwise; mmengine
0.10 stores loss histories, numpy scalars and the data set's numpy arrays beside the weights.

Way out: those few classes are data, so they are put on torch's list of what may be read. mmengine
stores each history's methods too, as `getattr(HistoryBuffer, 'mean')`: that name is answered by
a function that hands out these methods and nothing else. Reading stays weights-only, and a
checkpoint that would run code is still refused.

Delete when: mmengine stores plain numbers, or registers its classes itself.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

WRITTEN_FOR = {'mmengine': '>=0.10,<0.11'}

# Of each class, the methods mmengine refers to from a checkpoint.
_METHODS = {
    'mmengine.logging.history_buffer': ('HistoryBuffer', ('min', 'max', 'mean', 'current')),
    'mmengine.optim.scheduler.param_scheduler': (
        'OneCycleParamScheduler',
        ('_annealing_cos', '_annealing_linear'),
    ),
}

_readable_methods: dict[tuple[type, str], Callable[..., Any]] = {}


def _named(function: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    """A function that torch takes for the global of this name in a checkpoint."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    call.__module__, call.__name__, call.__qualname__ = module, name, name
    return call


def _known_method(owner: object, name: object) -> Callable[..., Any]:
    """Stands in for `getattr` in a checkpoint."""
    for (known_owner, known_name), method in _readable_methods.items():
        if owner is known_owner and name == known_name:
            return method
    import pickle

    raise pickle.UnpicklingError(
        f'Unsupported global: a checkpoint may not ask for getattr({owner!r}, {name!r})'
    )


def _no_bytes() -> bytes:
    """Stands in for `bytes` in a checkpoint, which calls it for the content of an empty array."""
    return b''


def _numpy_globals() -> list[Any]:
    """Arrays, scalars and their number and text types; object arrays stay out."""
    import numpy as np

    reconstruct: Any = np.empty(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in '?bBhHiIlLqQefdgFDGSU'}
    # A checkpoint names the functions by the module they had in the numpy that wrote it.
    functions = [
        _named(function, f'{package}.multiarray', name)
        for package in ('numpy.core', 'numpy._core')
        for name, function in (('_reconstruct', reconstruct), ('scalar', scalar))
    ]
    return [np.ndarray, np.dtype, *dtypes, *functions]


def apply() -> None:
    """Allows mmengine's histories and numpy's numbers and arrays in checkpoints."""
    after_import('torch.serialization', _allow_numbers)
    for module in _METHODS:
        after_import(module, _allow_class)


def _allow_numbers(serialization: Any) -> None:
    serialization.add_safe_globals(
        [
            *_numpy_globals(),
            _named(_known_method, 'builtins', 'getattr'),
            _named(_no_bytes, 'builtins', 'bytes'),
        ]
    )
    record(__name__)


def _allow_class(module: ModuleType) -> None:
    import torch

    class_name, methods = _METHODS[module.__name__]
    cls = getattr(module, class_name)
    torch.serialization.add_safe_globals([cls])
    _readable_methods.update({(cls, name): getattr(cls, name) for name in methods})
