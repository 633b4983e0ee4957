"""Parameters and multiply-adds, of a network and of its modules."""

from dataclasses import dataclass
from math import prod

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from scopevit.benchmark.networks import Network


@dataclass(frozen=True)
class Complexity:
    """Parameters and multiply-adds of a network or of one of its modules, for one image."""

    name: str  # dotted name of the module, '' for the whole network
    parameters: int
    multiply_adds: int  # of convolutions, matrix products and attention

    @property
    def figures(self) -> tuple[str, str]:
        """Parameters in millions and multiply-adds in G."""
        return f'{self.parameters / 1e6:.3f}', f'{self.multiply_adds / 1e9:.3f}'


def attention_flops(
    query: torch.Size, key: torch.Size, value: torch.Size, *args: object, **kwargs: object
) -> int:
    """Operations of (batch, heads, N, d) queries and (batch, heads, n, d) keys and values."""
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


# torch counts the fused attention of GPUs; that of the CPU would go unseen.
CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}


def count_complexity(network: Network, depth: int = 0) -> list[Complexity]:
    """Counts the parameters and multiply-adds of a network, on one image.

    Convolutions, linear layers, matrix products and attention count, fused or not. Norms,
    activations and sums do not: counters that add 2 for each value of a batch norm and 5 for each
    of a layer norm (fvcore does) read 0.7 to 1.2 % more of ScopeViT.

    Returns:
        The whole network, which stays as it is, then its modules of `depth` levels in their order,
        parents first.

    Raises:
        InputError: If the network does not run on images of its shape.
    """
    flops = count_flops(network)
    return [
        Complexity(
            name,
            sum(parameter.numel() for parameter in module.parameters()),
            module_flops(module, name, flops) // 2,
        )
        for name, module in network.model.named_modules()
        if not name or name.count('.') < depth
    ]


def count_flops(network: Network) -> dict[str, int]:
    """Returns the operations by module, two for each multiply-add; '' is the whole network.

    They are counted on the meta device, which computes nothing, and on the CPU where an operator
    cannot do without values.
    """
    with network.explained():
        try:
            return run_counter(network, 'meta')
        except (NotImplementedError, RuntimeError):
            return run_counter(network, 'cpu')


def run_counter(network: Network, device: str) -> dict[str, int]:
    """Counts the operations of one forward pass on a device; see `count_flops`."""
    module = network.module
    tensors = {
        name: tensor.to(device)
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }
    counter = FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    with torch.no_grad(), torch.device(device), counter:
        # Tying would leave a module that has two names with the tensors of the meta device.
        functional_call(module, tensors, (network.make_input(device=device),), tie_weights=False)
    # The counter's names begin with the class of the outermost module, perhaps our TensorForward.
    wrapper = '' if network.model is module else 'model.'
    flops = {
        name.partition('.')[2].removeprefix(wrapper): sum(counts.values())
        for name, counts in counter.get_flop_counts().items()
        if name != 'Global'
    }
    return {**flops, '': counter.get_total_flops()}


def module_flops(module: nn.Module, name: str, flops: dict[str, int]) -> int:
    """Returns the operations of a module; of its children where it only holds them."""
    if name in flops:
        return flops[name]
    prefix = f'{name}.' if name else ''
    children = module.named_children()
    return sum(module_flops(child, prefix + part, flops) for part, child in children)
