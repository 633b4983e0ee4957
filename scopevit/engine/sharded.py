"""Trainings whose processes share a model's weights, gradients and optimizer state: torch's FSDP2.

Each process keeps a part of every parameter, and has the whole of a unit's only while it computes
that unit. Checkpoints are the ordinary ones: the first process gathers them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from scopevit.engine.model import unwrap_model
from scopevit.engine.walk import type_name
from scopevit.errors import InputError
from scopevit.state_dict import strip_prefix

# By which the libraries call their heads, besides as modules.
HEAD_METHODS = ('loss', 'predict', 'loss_and_predict')
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
BACKBONE = 'backbone'
LISTS = nn.ModuleList, nn.ModuleDict  # which have no forward pass


@MODEL_WRAPPERS.register_module()
class ShardedModel(nn.Module):
    """Wraps a model whose parameters the processes share, once `shard` was called.

    Args:
        module: The model; it stays whole until then, on the CPU.
        units: Classes or names of modules whose parameters are gathered together, one unit at a
            time; what is in none of them is gathered with the whole model.
        mixed_precision: 'bf16' lets the backbone compute in bfloat16, and give maps in float32.
            What keeps statistics or tables in float32, as batch norms do, computes in that.

    Raises:
        InputError: If the model has no such unit, or no backbone for mixed precision.
    """

    def __init__(
        self, module: nn.Module, units: Sequence[str], mixed_precision: str | None = None
    ) -> None:
        super().__init__()
        self.module = revert_sync_batchnorm(module) if get_device() == 'cpu' else module
        model = unwrap_model(self)
        if isinstance(units, str) or not all(isinstance(unit, str) for unit in units):
            raise InputError(f'model_wrapper_cfg.units must be a list of names, not {units!r}')
        if mixed_precision not in (None, 'bf16'):
            raise InputError(
                f"model_wrapper_cfg.mixed_precision must be 'bf16' or None, not {mixed_precision!r}"
            )
        if mixed_precision and not hasattr(model, BACKBONE):
            raise InputError(
                f'model_wrapper_cfg.mixed_precision: {type(model).__name__} has no {BACKBONE}'
            )
        self.in_half = mixed_precision is not None
        self.units = find_units(model, units)

    def shard(self) -> None:
        """Leaves each process its part of the parameters, on its device."""
        model = unwrap_model(self)
        mesh = init_device_mesh(get_device(), (get_world_size(),))
        # Those inside of others first.
        for name, module in reversed(list(model.named_modules())):
            policy = self.policy_of(name, module)
            if policy is not None:
                # Also the outermost one's parts are left after a forward pass, in which nothing
                # may follow that goes backward.
                fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
                if name:
                    register_methods(module)
        self.module.to(get_device())  # tells the data preprocessor, too

    def policy_of(self, name: str, module: nn.Module) -> MixedPrecisionPolicy | None:
        """Returns in what precision a module computes; None where it is no unit."""
        if not name:
            return MixedPrecisionPolicy()
        if self.in_half and name == BACKBONE:
            return MixedPrecisionPolicy(torch.bfloat16, torch.float32, torch.float32)
        if self.in_half and name.startswith(f'{BACKBONE}.'):
            # Parameters alone are cast, and what computes with both needs one type.
            if any(buffer.is_floating_point() for buffer in module.buffers(recurse=False)):
                return MixedPrecisionPolicy()
            return (
                MixedPrecisionPolicy(torch.bfloat16, torch.float32) if name in self.units else None
            )
        return MixedPrecisionPolicy() if name in self.units else None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Takes a step. With several batches a step, gradients are shared after each of them."""
        return self.module.train_step(data, optim_wrapper)  # type: ignore[operator]

    def val_step(self, data: Any) -> list[Any]:
        """Predicts a batch of a validation."""
        return self.module.val_step(data)  # type: ignore[operator]

    def test_step(self, data: Any) -> list[Any]:
        """Predicts a batch of a test."""
        return self.module.test_step(data)  # type: ignore[operator]


def find_units(model: nn.Module, units: Iterable[str]) -> set[str]:
    """Returns the names of the modules that units are.

    Raises:
        InputError: If one is none of the model's, or has no forward pass.
    """
    found: set[str] = set()
    modules = {name: module for name, module in model.named_modules() if name}
    for unit in units:
        names = [name for name, m in modules.items() if unit in (name, type(m).__name__)]
        if not names:
            parts = [m for m in modules.values() if list(m.children()) and not isinstance(m, LISTS)]
            classes = sorted({type(m).__name__ for m in parts})
            raise InputError(
                f'model_wrapper_cfg.units: the model has no {unit!r}; its classes with modules in '
                f'them are {", ".join(classes)}'
            )
        if isinstance(modules[names[0]], LISTS):
            raise InputError(f'model_wrapper_cfg.units: {unit!r} is a list; name what is in it')
        found.update(names)
    return found


def register_methods(module: nn.Module) -> None:
    """Lets a unit have its parameters in the methods by which the libraries call a head."""
    for name in HEAD_METHODS:
        if hasattr(module, name):
            register_fsdp_forward_method(module, name)


def is_sharded(cfg: Config) -> bool:
    """Whether a config has its model sharded, in several processes."""
    wrapper = cfg.get('model_wrapper_cfg') or {}
    return 'type' in wrapper and type_name(wrapper) == ShardedModel.__name__


def check_sharding(cfg: Config, launcher: str) -> None:
    """Raises an InputError where a training is sharded that cannot be."""
    if not is_sharded(cfg):
        return
    start = f'{cfg.filename}: model_wrapper_cfg of type {ShardedModel.__name__}'
    if launcher == 'none':
        raise InputError(f'{start} needs a launcher: train with tools/dist_train.sh')
    kind = cfg.optim_wrapper.get('type', OptimWrapper)
    if type_name({'type': kind}) != OptimWrapper.__name__:
        raise InputError(
            f'{start} does without an optim_wrapper of type {kind}, and without --amp: set '
            "model_wrapper_cfg.mixed_precision='bf16'"
        )
    if cfg.get('compile'):
        raise InputError(f'{start} cannot be compiled: set compile=False')
    for hook in cfg.get('custom_hooks') or []:
        if type_name(hook).endswith('EMAHook'):
            raise InputError(f'{start} has no averages of its weights: leave out {type_name(hook)}')


class WholeStateHook(Hook):
    """Puts the whole state of a sharded training into checkpoints, and takes its part out of them.

    Attributes:
        state: Weights and, where they are asked for, the optimizer's state, for the next
            checkpoint; in the first process alone, on the CPU.
    """

    priority = 'VERY_HIGH'  # before hooks that look at weights

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def gather(self, runner: Runner, with_optimizer: bool) -> None:
        """Gets the state, a parameter at a time; called in all processes."""
        model = unwrap_model(runner.model)
        self.state = {'state_dict': whole_weights(model)}
        if with_optimizer:
            self.state['optimizer'] = whole_optimizer_state(model, runner.optim_wrapper)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Replaces the parts of the first process."""
        for key, values in self.state.items():
            checkpoint[key].update(values)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Leaves of weights and optimizer state the parts of this process."""
        parameters = dict(unwrap_model(runner.model).named_parameters())
        weights = strip_prefix(checkpoint['state_dict'], 'module.')
        checkpoint['state_dict'] = {
            name: part_of(value, parameters.get(name)) for name, value in weights.items()
        }
        if not runner.cfg.get('resume') or 'optimizer' not in checkpoint:
            return
        groups = runner.optim_wrapper.optimizer.param_groups
        ordered = [parameter for group in groups for parameter in group['params']]
        state = checkpoint['optimizer']['state']
        checkpoint['optimizer']['state'] = {
            i: {key: part_of(value, ordered[i]) for key, value in state[i].items()} for i in state
        }


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """Returns weights and buffers of a model, on the CPU; empty but in one process.

    Called in all processes.
    """
    return get_model_state_dict(model, options=WHOLE)


def whole_optimizer_state(model: nn.Module, wrapper: OptimWrapper) -> dict[str, Any]:
    """Returns an optimizer's state as that of a model that is whole; empty but in one process."""
    state: dict[str, Any] = wrapper.state_dict()
    if state['state']:  # torch takes a step to make one otherwise
        whole: dict[str, Any] = get_optimizer_state_dict(model, wrapper.optimizer, options=WHOLE)
        if is_main_process():  # by names, where an optimizer has numbers
            names = [name for group in whole['param_groups'] for name in group['params']]
            found = whole['state']
            state['state'] = {i: found[name] for i, name in enumerate(names) if name in found}
    return state if is_main_process() else {}


def part_of(value: Any, parameter: Tensor | None) -> Any:
    """Returns a process's part of a tensor as large as a parameter; other values as they are.

    Called in all processes.
    """
    if (
        isinstance(value, Tensor)
        and isinstance(parameter, DTensor)
        and value.shape == parameter.shape
    ):
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)
    return value


def local(tensor: Tensor) -> Tensor:
    """Returns what this process has of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(part: Tensor, parameter: Tensor) -> Tensor:
    """Returns what a process has of a tensor as that of all; the inverse of `local`.

    Raises:
        InputError: If it is no part of one as large as `parameter`.
    """
    if part.shape != local(parameter).shape:
        raise InputError(
            'the checkpoint is from the middle of a step of several batches, and its model was '
            'sharded another way: go on as it was, or from a checkpoint before'
        )
    part = part.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return part
    return DTensor.from_local(
        part, parameter.device_mesh, parameter.placements,
        shape=parameter.shape, stride=parameter.stride(),
    )  # fmt: skip


def all_finite(tensors: Sequence[Tensor]) -> list[bool]:
    """Returns of each tensor whether all its values are finite, those of other processes too."""
    flags = torch.stack([torch.isfinite(local(tensor)).all() for tensor in tensors]).int()
    if any(isinstance(tensor, DTensor) for tensor in tensors):
        all_reduce(flags, 'min')
    return [bool(flag) for flag in flags.tolist()]
