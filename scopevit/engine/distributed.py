"""The start and end of a run in several processes, on GPUs or on the CPU.

mmengine's launcher does not foresee the CPU: its `init_dist` calls `torch.cuda.set_device` for any
backend, `Runner.wrap_model` passes the local rank as device, and SyncBN has no version for it.
There a gloo group is started before the Runner, which leaves a group that exists alone, and the
config gets a model wrapper of ours.
"""

import datetime
import os
import time
from typing import Any

import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size, is_distributed
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from scopevit.engine.sharded import is_sharded
from scopevit.errors import InputError

# What each launcher sets in every process it starts.
LAUNCHER_VARIABLES = {
    'pytorch': 'RANK',
    'slurm': 'SLURM_PROCID',
    'mpi': 'OMPI_COMM_WORLD_LOCAL_RANK',
}
NEEDED = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')  # by gloo
GLOO_SECONDS = 0.1


@MODEL_WRAPPERS.register_module()
class CPUDistributedDataParallel(MMDistributedDataParallel):
    """MMDistributedDataParallel for a model on the CPU.

    SyncBN layers become BN layers, for want of a CPU version of them: each process then normalises
    by its own batch. `device_ids`, where the Runner passes the local rank, is not used.
    """

    def __init__(
        self, module: nn.Module, device_ids: list[int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(module=revert_sync_batchnorm(module), device_ids=None, **kwargs)


def check_launcher(launcher: str) -> None:
    """Raises an InputError unless a launcher, if any, started this process, on a GPU of its own."""
    variable = LAUNCHER_VARIABLES.get(launcher)
    if variable and variable not in os.environ:
        raise InputError(f'--launcher {launcher}: the environment has no {variable}')
    if launcher == 'pytorch':
        check_gpus(int(os.environ.get('LOCAL_RANK', 0)))


def check_gpus(local_rank: int) -> None:
    """Raises an InputError where there are GPUs, but none for this process of the machine."""
    count = torch.cuda.device_count()
    if get_device() == 'cuda' and local_rank >= count:
        raise InputError(
            f'process {local_rank + 1} of this machine has no GPU: start as many as there are, '
            f'{count}, or set CUDA_VISIBLE_DEVICES= to run on the CPU'
        )


def setup(cfg: Config, launcher: str) -> None:
    """Prepares a distributed run on the CPU, to be called before `Runner.from_cfg(cfg)`.

    Does nothing for the launcher `'none'` or where there is a GPU or another accelerator.

    Raises:
        InputError: See `init_cpu_process_group` and `use_cpu_model_wrapper`.
    """
    if launcher == 'none' or get_device() != 'cpu':
        return
    dist_cfg = cfg.get('env_cfg', {}).get('dist_cfg', {})
    try:
        use_cpu_model_wrapper(cfg)
        init_cpu_process_group(launcher, dist_cfg.get('timeout'))
    except ValueError as error:
        raise InputError(f'--launcher {launcher}: {error}') from error


def use_cpu_model_wrapper(cfg: Config) -> None:
    """Names the CPU wrapper in `model_wrapper_cfg` and keeps what the config says about wrapping.

    Raises:
        ValueError: If the config asks for a wrapper of a type that has no use for it.
    """
    if is_sharded(cfg):
        return  # on any device
    # What the Runner does, and reads, only where there is no model_wrapper_cfg.
    unused = cfg.get('find_unused_parameters', False)
    default = dict(broadcast_buffers=False, find_unused_parameters=unused)
    wrapper = dict(cfg.get('model_wrapper_cfg') or default)
    asked = wrapper.get('type', 'MMDistributedDataParallel')
    if asked not in ('MMDistributedDataParallel', CPUDistributedDataParallel.__name__):
        raise ValueError(f'model_wrapper_cfg of type {asked!r} does not run on the CPU')
    cfg.model_wrapper_cfg = dict(wrapper, type=CPUDistributedDataParallel.__name__)


def init_cpu_process_group(launcher: str, timeout: float | None = None) -> None:
    """Joins the gloo process group that torchrun's environment variables describe.

    Where a group was started before, it is left as it is. `timeout`: seconds to wait for others.

    Raises:
        ValueError: For another launcher, or where torchrun's variables are missing.
    """
    if torch_dist.is_initialized():
        return
    if launcher != 'pytorch':
        raise ValueError(
            f"launcher {launcher!r} needs GPUs; on the CPU use torchrun and launcher 'pytorch'"
        )
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        raise ValueError(
            f"launcher 'pytorch' without {', '.join(missing)}: start the program with torchrun"
        )
    wait = None if timeout is None else datetime.timedelta(seconds=timeout)
    torch_dist.init_process_group(backend='gloo', timeout=wait)


def leave_process_group() -> None:
    """Ends a distributed run: a process that exits before the others makes gloo abort them."""
    if is_distributed():
        torch_dist.barrier()
        torch_dist.destroy_process_group()
        # gloo's thread frees the tensors of the last collective after its end. Where Python has
        # begun to shut down by then, the process ends in SIGABRT, after all its work (seen with
        # torch 2.14; pytorch pull request 179291). Nothing tells when the thread is done.
        time.sleep(GLOO_SECONDS)


def all_reduced(value: torch.Tensor, op: str) -> int:
    """Returns a number of all processes."""
    if get_world_size() > 1:
        all_reduce(value, op)
    return int(value)
