"""Latency and throughput of several networks, measured in turn."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from scopevit.benchmark.networks import Network
from scopevit.benchmark.timing import Pass, quartiles, take_turns, visit
from scopevit.errors import InputError

# A run this long on the CPU hardly depends on what was run before it.
TRUSTED_SECONDS = 1.0
# Images a forward pass, from that of the latency to that of the throughput. A GPU that works on few
# images waits for the next call.
BATCH_SIZES = {'cpu': (1, 8), 'cuda': (1, 8, 64, 256)}


@dataclass(frozen=True)
class SpeedOptions:
    """How to measure speed."""

    batch_sizes: tuple[int, ...]  # images a forward pass
    device: str = 'cpu'  # or 'cuda'
    compile: bool = False  # with torch.compile
    channels_last: bool = False  # how weights and images are stored
    amp: bool = False  # mixed precision: bfloat16 on the CPU, float16 on a GPU
    # A batch that would take longer is halved until it takes less, on a GPU until it fits, too.
    max_batch_seconds: float = 4.0
    visit_seconds: float = 0.5  # at each visit a network runs for this time, at least once


@dataclass
class Timing:
    """Times of a network's forward passes at one batch size."""

    batch_size: int  # images a forward pass, at most as many as asked for
    seconds: list[float] = field(default_factory=list)  # of each timed pass

    @property
    def quartiles(self) -> tuple[float, ...]:
        """Lower quartile, median and upper quartile in seconds; all the same of one pass."""
        return quartiles(self.seconds)

    @property
    def images_per_second(self) -> tuple[float, ...]:
        """Lower quartile, median and upper quartile."""
        return tuple(self.batch_size / seconds for seconds in reversed(self.quartiles))


def measure_speed(
    networks: Sequence[Network],
    options: SpeedOptions,
    deadline: float,
    estimates: Sequence[float] | None = None,
    failed: Callable[[int, Exception], None] | None = None,
) -> list[dict[int, Timing]]:
    """Times networks in rounds that visit every network and batch size; see `take_turns`.

    Args:
        networks: Networks; they move to the device.
        options: What to measure.
        deadline: When the rounds should have ended; there is one in any case.
        estimates: Seconds that a run of one image took before, if known. A shorter one than
            `TRUSTED_SECONDS` is not trusted, but measured again.
        failed: Takes the index of a network that does not run, or does not compile, and why; the
            others go on. Without it, the error is raised.

    Returns:
        Timings of each network by the batch size asked for, none of one that failed. Where several
        of these sizes became the same, so are their timings.

    Raises:
        InputError: If a network does not run, or does not compile, see `failed`.
    """
    timings: list[dict[int, Timing]] = [{} for _ in networks]

    def drop(index: int, error: Exception) -> None:
        timings[index].clear()
        if failed is None:
            raise error
        failed(index, error)

    candidates = [
        time_network(network, options, seconds, by_size)
        for network, seconds, by_size in zip(networks, estimates or itertools.repeat(0.0), timings)
    ]
    take_turns('speed', candidates, drop, deadline=deadline)
    return timings


def time_network(
    network: Network, options: SpeedOptions, estimate: float, timings: dict[int, Timing]
) -> Iterator[None]:
    """Chooses a network's batch sizes; then adds to `timings` at each turn; see `measure_speed`."""
    amp = {'cpu': torch.bfloat16, 'cuda': torch.float16}[options.device] if options.amp else None
    run = Pass(network.module, options.device, channels_last=options.channels_last, amp=amp)

    def images(batch_size: int) -> Tensor:
        return run.place(network.make_input(batch_size))

    def repeat(batch_size: int, at_least: float) -> list[float]:
        one = partial(run, images(batch_size))
        with network.explained():
            return visit(one, at_least, trusted=at_least)

    if options.device == 'cuda':
        repeat(1, 0.0)  # the first run starts up CUDA and loads the kernels
    known = estimate >= TRUSTED_SECONDS and options.device == 'cpu'
    image_seconds = estimate if known else repeat(1, 0.0)[0]
    limit = options.max_batch_seconds
    sizes = {asked: feasible_size(asked, image_seconds, limit) for asked in options.batch_sizes}
    if options.device == 'cuda':
        with network.explained():
            sizes = {
                asked: fitting_size(size, lambda size: run(images(size)))
                for asked, size in sizes.items()
            }
    distinct = {size: Timing(size) for size in sizes.values()}
    if options.compile:
        try:
            with network.explained():
                run.compile(map(images, distinct))
        except InputError as error:
            raise InputError(f'--compile: {error}') from error
    timings.update({asked: distinct[size] for asked, size in sizes.items()})
    while True:
        yield
        for timing in distinct.values():
            timing.seconds += repeat(timing.batch_size, options.visit_seconds)


def feasible_size(batch_size: int, image_seconds: float, max_seconds: float) -> int:
    """Halves a batch until it should take no longer than `max_seconds`."""
    while batch_size > 1 and batch_size * image_seconds > max_seconds:
        batch_size //= 2
    return batch_size


def fitting_size(batch_size: int, run: Callable[[int], object]) -> int:
    """Halves a batch until it runs in the memory of the GPU, or is one image."""
    while batch_size > 1:
        try:
            run(batch_size)
        except torch.OutOfMemoryError:
            batch_size //= 2
        else:
            break
    return batch_size
