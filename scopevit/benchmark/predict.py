"""Predicts what a training step takes on a GPU, without one: memory, and images a second at most.

A step's operators are followed on fake CUDA tensors. Nothing is measured, and nothing is run.
"""

import dataclasses
from dataclasses import dataclass

import torch
from mmengine.config import Config
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)

from scopevit.benchmark.fake_cuda import (
    backward,
    check_cuda_code,
    fake_cuda,
    fused_attention,
    to_cuda,
)
from scopevit.benchmark.memory import PeakMemory
from scopevit.benchmark.networks import Network, build_network, has_queries, height_width
from scopevit.benchmark.training import training_loss
from scopevit.benchmark.work import Work
from scopevit.engine.checks.kinds import check_kinds
from scopevit.engine.walk import leaf_configs, type_name
from scopevit.errors import InputError

# How many numbers an optimizer keeps of each parameter.
OPTIMIZER_STATES = {'Adam': 2, 'AdamW': 2, 'SGD': 1}
NUMBER_BYTES = 4  # parameters, gradients and states stay in float32 under AMP


@dataclass(frozen=True)
class GPU:
    """What a data sheet says, of dense matrices."""

    name: str
    bandwidth: float  # bytes a second
    half_rate: float  # operations a second in float16
    float_rate: float  # in float32 with products in TF32, which torch has off for linear layers


GPUS = (
    # https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/
    # nvidia-a100-datasheet-nvidia-us-2188504-web.pdf
    GPU('A100', 2.039e12, 312e12, 156e12),
    # https://www.nvidia.com/en-us/data-center/h100/, where rates are those of sparse matrices
    GPU('H100', 3.35e12, 989e12, 494e12),
)


@dataclass(frozen=True)
class StepCost:
    """What a training step takes, in one precision.

    Attributes:
        peak_bytes: Most memory that is in use at one time: what is there between two steps,
            images, activations, gradients.
        moved_bytes: What operators and the optimizer read and write.
        operations: Of convolutions, matrix products and attention, two for each multiply-add.
        operators: How many run in forward and backward pass.
    """

    peak_bytes: int
    moved_bytes: int
    operations: int
    operators: int


@dataclass(frozen=True)
class Prediction:
    """What a recipe's training step takes on a GPU.

    Attributes:
        name: Stem of the config.
        shape: One image, (channels, height, width).
        batch_size: Images a GPU.
        state_bytes: What is there between two steps: parameters, buffers, the optimizer's numbers
            and the moving average of the weights where the recipe has one.
        float32: Without mixed precision.
        amp: With mixed precision in float16.
    """

    name: str
    shape: tuple[int, int, int]
    batch_size: int
    state_bytes: int
    float32: StepCost
    amp: StepCost

    def cost(self, amp: bool) -> StepCost:
        """Returns what a step takes with mixed precision or without."""
        return self.amp if amp else self.float32

    def seconds(self, gpu: GPU, amp: bool) -> dict[str, float]:
        """Returns the seconds that a step takes at least, by what limits it."""
        cost, rate = self.cost(amp), gpu.half_rate if amp else gpu.float_rate
        return {
            'bandwidth': cost.moved_bytes / gpu.bandwidth,
            'arithmetic': cost.operations / rate,
        }

    def images_per_second(self, gpu: GPU, amp: bool) -> float:
        """Returns the images a second at most, if no map stays in a cache."""
        return self.batch_size / max(self.seconds(gpu, amp).values())

    def limit(self, gpu: GPU, amp: bool) -> str:
        """Returns what limits `images_per_second`: 'bandwidth' or 'arithmetic'."""
        seconds = self.seconds(gpu, amp)
        return max(seconds, key=lambda limit: seconds[limit])


def predict_step(cfg: Config, size: tuple[int, int] | None = None) -> Prediction:
    """Predicts what a recipe's training step takes on a GPU, for one of the processes.

    The memory is comparable with `torch.cuda.max_memory_allocated()` of a step that is not the
    first: the optimizer's numbers are there. See `NOTE` for what is not in it.

    Args:
        cfg: Config of one of the four libraries.
        size: Height and width in pixels; by default those of the recipe's training.

    Raises:
        InputError: If torch is built for CPUs alone, or the recipe does not tell what is needed.
    """
    check_cuda_code()
    check_kinds(cfg, str(cfg.filename))
    batch_size = (cfg.get('train_dataloader') or {}).get('batch_size')
    if batch_size is None:
        raise InputError(f'{cfg.filename} has no train_dataloader.batch_size')
    if type(batch_size) is not int or batch_size < 1:  # True is an int
        raise InputError(
            f'{cfg.filename}: train_dataloader.batch_size must be a whole number above 0, '
            f'not {batch_size!r}'
        )
    states = optimizer_states(cfg)
    network = build_network(cfg, size or training_size(cfg))
    if has_queries(network.model):
        raise InputError(
            f'{network.name} has queries, and queries depend on annotations: what depends on '
            'numbers is not predicted'
        )
    model = network.model.train()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    weight_bytes = sum(x.nbytes for x in (*model.parameters(), *model.buffers()))
    copies = 2 if has_moving_average(cfg) else 1
    state_bytes = copies * weight_bytes + states * trained * NUMBER_BYTES
    # The optimizer reads parameter, gradient and states, and writes all but the gradient.
    optimizer_bytes = (3 + 2 * states) * trained * NUMBER_BYTES
    costs = count_step(network, batch_size)
    float32, amp = (
        dataclasses.replace(
            cost,
            peak_bytes=cost.peak_bytes + state_bytes,
            moved_bytes=cost.moved_bytes + optimizer_bytes,
        )
        for cost in costs
    )
    return Prediction(network.name, network.shape, batch_size, state_bytes, float32, amp)


def count_step(network: Network, batch_size: int) -> tuple[StepCost, StepCost]:
    """Counts forward and backward pass without and with AMP, beyond the model itself.

    The model becomes one of fake tensors.
    """
    with network.explained(), fake_cuda(), fused_attention():
        model = to_cuda(network.model, torch.float32)
        try:
            passes = [count_passes(model, batch_size, network.shape, amp) for amp in (False, True)]
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise InputError(
                f'{network.name}: what {error} gives depends on numbers, which are not predicted'
            ) from error
    return passes[0], passes[1]


def count_passes(
    model: nn.Module, batch_size: int, shape: tuple[int, int, int], amp: bool
) -> StepCost:
    """Counts one forward and backward pass of a model of fake CUDA tensors."""
    model.zero_grad()
    with PeakMemory() as memory, Work() as work:
        images = torch.empty(batch_size, *shape, device='cuda')
        with torch.autocast('cuda', torch.float16, enabled=amp):
            loss = training_loss(model, images)
        backward(loss)
    return StepCost(memory.peak_bytes, work.moved_bytes, work.operations, work.operators)


def training_size(cfg: Config) -> tuple[int, int] | None:
    """Returns the height and width of the crops that a classifier is trained on, where it tells.

    The other tasks test at the size at which they train, or the largest of those.
    """
    dataset = cfg.train_dataloader.get('dataset')
    steps = (next(leaf_configs(dataset)).get('pipeline') or []) if dataset else []
    crops = [step for step in steps if type_name(step) == 'RandomResizedCrop']
    return height_width(crops[0].get('scale')) if crops else None


def optimizer_states(cfg: Config) -> int:
    """Returns how many numbers a recipe's optimizer keeps of each parameter."""
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    kind = type_name(optimizer) if optimizer.get('type') else None
    if kind not in OPTIMIZER_STATES:
        raise InputError(
            f'{cfg.filename}: optim_wrapper.optimizer.type must be one of '
            f'{", ".join(OPTIMIZER_STATES)} to be predicted, not {kind!r}'
        )
    return OPTIMIZER_STATES[kind] if kind != 'SGD' or optimizer.get('momentum') else 0


def has_moving_average(cfg: Config) -> bool:
    """Whether a recipe keeps a moving average of the weights, which is a model of its own."""
    return any(type_name(hook) == 'EMAHook' for hook in cfg.get('custom_hooks') or [])
