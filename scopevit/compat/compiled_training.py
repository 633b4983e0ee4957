"""Keep torch.compile from tracing how MMEngine stores meta information.

Symptom: training with `compile=True` sometimes ends in `TorchRuntimeError: ... 'ndarray' object
has no attribute '__deepcopy__'`, in `BaseDataElement.set_metainfo`, most often in pose
estimation, whose samples carry arrays of numpy: the compiler takes them for tensors.

Versions: mmengine 0.10, which compiles the whole training step; seen with torch 2.14.

Way out: set that method off from what is compiled, as soon as a runner compiles.

Delete when: torch can trace `copy.deepcopy` of an array.
"""

import functools
from types import ModuleType
from typing import Any

from scopevit.compat._acted import record
from scopevit.compat._after_import import after_import

WRITTEN_FOR = {'mmengine': '>=0.10,<0.11'}
WAITS_FOR = 'a training with compile=True'


def apply() -> None:
    """Makes a runner set the tracing off before it compiles."""
    after_import('mmengine.runner.runner', _wrap_runner)


def _wrap_runner(module: ModuleType) -> None:
    runner = module.Runner
    maybe_compile = runner._maybe_compile

    @functools.wraps(maybe_compile)
    def compile_all_but_meta_information(self: Any, target: str) -> None:
        if self.cfg.get('compile') not in (None, False):  # an empty dict compiles, too
            _leave_out_meta_information()
        maybe_compile(self, target)

    runner._maybe_compile = compile_all_but_meta_information


@functools.cache  # once
def _leave_out_meta_information() -> None:
    import torch
    from mmengine.structures import BaseDataElement

    # Here and not at once, since it imports the compiler.
    BaseDataElement.set_metainfo = torch.compiler.disable(BaseDataElement.set_metainfo)
    record(__name__)
