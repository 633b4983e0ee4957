"""Latency and throughput of several networks, measured in turn."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from scopevit.benchmark.networks import Network
from scopevit.errors import InputError

# A run this long on the CPU hardly depends on what was run before it.
TRUSTED_SECONDS = 1.0
# torch takes networks of one class for one function: past its limit of 8 such compilations (this
# one is ours) they would run without being compiled.
COMPILE_LIMIT = 256


@dataclass(frozen=True)
class SpeedOptions:
    """How to measure speed.

    Attributes:
        batch_sizes: Images a forward pass.
        device: 'cpu' or 'cuda'.
        compile: Whether to compile the networks with torch.compile.
        channels_last: Whether weights and images are stored channels last.
        amp: Whether to run in mixed precision: bfloat16 on the CPU, float16 on a GPU.
        max_batch_seconds: A batch that would take longer is halved until it takes less.
        visit_seconds: At each visit a network runs until it has used this time, at least once.
    """

    batch_sizes: tuple[int, ...] = (1, 8)
    device: str = 'cpu'
    compile: bool = False
    channels_last: bool = False
    amp: bool = False
    max_batch_seconds: float = 4.0
    visit_seconds: float = 0.5


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns lower quartile, median and upper quartile; all the same of one value."""
    if len(values) == 1:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, n=4, method='inclusive'))


@dataclass
class Timing:
    """Times of a network's forward passes at one batch size.

    Attributes:
        batch_size: Images a forward pass, at most as many as asked for.
        seconds: One number for each timed pass.
    """

    batch_size: int
    seconds: list[float] = field(default_factory=list)

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile in seconds; all the same of one pass."""
        return quartiles(self.seconds)

    @property
    def images_per_second(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile."""
        return tuple(self.batch_size / seconds for seconds in reversed(self.quartiles))


def raise_error(network: Network, error: Exception) -> None:
    """Raises what went wrong with a network: the others are not measured either."""
    raise error


def measure_speed(
    networks: Sequence[Network],
    options: SpeedOptions,
    deadline: float,
    estimates: Sequence[float] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    log: Callable[[str], None] = print,
    failed: Callable[[Network, Exception], None] = raise_error,
) -> list[dict[int, Timing]]:
    """Times networks in rounds that visit every network and batch size.

    So what disturbs the machine for a while hits all of them alike. There is one round, and another
    one while the time left is at least that of the last round. A run shorter than a visit is
    preceded by one that is not timed; of longer ones the first touch of the memory is a small part.

    Args:
        networks: Networks; they move to the device.
        options: What to measure.
        deadline: Time of the clock at which the rounds should have ended.
        estimates: Seconds that a run of one image took before, if known.
            A shorter one than `TRUSTED_SECONDS` is not trusted, but measured again.
        clock: Returns a time in seconds.
        log: Takes a line about the progress, once a round.
        failed: Takes a network that does not run, or does not compile, and why. The
            others go on unless this raises, as it does by default.

    Returns:
        Timings of each network by the batch size asked for, none of one
        that failed. Where several of these sizes became the same, so are their timings.

    Raises:
        InputError: If a network does not run, or does not compile, see `failed`.
    """
    estimates = estimates or [0.0] * len(networks)
    timings: list[dict[int, Timing]] = [{} for _ in networks]
    running: dict[int, Forward] = {}

    @contextmanager
    def dropped_if_it_fails(index: int) -> Iterator[None]:
        try:
            yield
        # Whatever a library or a compiler raises: `failed` decides whether the others go on.
        except Exception as error:
            running.pop(index, None)
            timings[index] = {}
            failed(networks[index], error)

    for index, (network, seconds) in enumerate(zip(networks, estimates)):
        with dropped_if_it_fails(index):
            running[index] = forward = Forward(network, options, clock, seconds)
            sizes = {size: forward.feasible_size(size) for size in options.batch_sizes}
            distinct = {size: Timing(size) for size in sizes.values()}
            if options.compile:
                forward.compile(distinct)
            timings[index] = {asked: distinct[size] for asked, size in sizes.items()}
    begin = round_begin = clock()
    rounds, round_seconds = 0, 0.0
    while running and (rounds == 0 or round_begin + round_seconds <= deadline):
        for index, forward in list(running.items()):
            with dropped_if_it_fails(index):
                for timing in {id(timing): timing for timing in timings[index].values()}.values():
                    forward.visit(timing)
        rounds += 1
        round_seconds = clock() - round_begin
        round_begin += round_seconds
        log(f'speed: round {rounds} took {round_seconds:.0f} s, {round_begin - begin:.0f} s in all')
    return timings


class Forward:
    """Forward passes of a network.

    Args:
        network: Network; it moves to the device.
        options: How to run it.
        clock: Returns a time in seconds.
        estimate: Seconds that a run of one image took before, 0 if unknown.
    """

    def __init__(
        self,
        network: Network,
        options: SpeedOptions,
        clock: Callable[[], float],
        estimate: float = 0.0,
    ) -> None:
        self.network = network
        self.options = options
        self.clock = clock
        self.layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self.module = network.module.to(options.device, memory_format=self.layout)
        if options.device == 'cuda':
            self.run(1)  # the first run starts up CUDA and loads the kernels
        known = estimate >= TRUSTED_SECONDS and options.device == 'cpu'
        self.image_seconds = estimate if known else self.run(1)

    def compile(self, batch_sizes: Iterable[int]) -> None:
        """Compiles the network for some batch sizes, each by itself in its first run."""
        self.module = torch.compile(self.module, dynamic=False)
        try:
            with torch._dynamo.config.patch(cache_size_limit=COMPILE_LIMIT):
                for size in batch_sizes:
                    self.run(size)
        except InputError as error:
            raise InputError(f'--compile: {error}') from error

    def run(self, batch_size: int) -> float:
        """Runs one batch and returns the seconds it took."""
        return self.repeat(batch_size, at_least=0.0)[0]

    def repeat(self, batch_size: int, at_least: float) -> list[float]:
        """Runs a batch again until some time has passed, and returns the seconds of each run."""
        device = self.options.device
        images = self.network.make_input(batch_size, device)
        images = images.contiguous(memory_format=self.layout)
        dtype = torch.bfloat16 if device == 'cpu' else torch.float16
        seconds = []
        autocast = torch.autocast(device, dtype, enabled=self.options.amp)
        with self.network.explained(), torch.inference_mode(), autocast:
            while not seconds or sum(seconds) < at_least:
                synchronize(device)
                begin = self.clock()
                self.module(images)
                synchronize(device)
                seconds.append(self.clock() - begin)
        return seconds

    def feasible_size(self, batch_size: int) -> int:
        """Halves a batch until it should take no longer than `max_batch_seconds`."""
        while batch_size > 1 and batch_size * self.image_seconds > self.options.max_batch_seconds:
            batch_size //= 2
        return batch_size

    def visit(self, timing: Timing) -> None:
        """Adds the times of one visit."""
        size = timing.batch_size
        if size * self.image_seconds < self.options.visit_seconds:
            self.run(size)
        timing.seconds += self.repeat(size, self.options.visit_seconds)


def synchronize(device: str) -> None:
    """Waits until the device has done what it was given."""
    if device == 'cuda':
        torch.cuda.synchronize()
