"""One way to run a network, and one to time several of them in turn."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from scopevit.benchmark.memory import tensors_of
from scopevit.benchmark.pages import log

# torch takes networks of one class for one function: past its limit of 8 such compilations (this
# one is ours) they would run without being compiled.
COMPILE_LIMIT = 256
VISIT_SECONDS = 0.3
# A GPU is kept busy for some of its cycles while calls pile up. These take a second at the highest
# clocks there are, and two or three at low ones.
CYCLES_PER_SECOND = 2e9
MAX_BUSY_SECONDS = 0.5


def synchronize(device: str) -> None:
    """Waits until the device has done what it was given."""
    if device == 'cuda':
        torch.cuda.synchronize()


class Pass:
    """A forward pass of a network, in training with its backward pass.

    Args:
        module: Network; it moves to the device.
        device: 'cpu' or 'cuda'.
        training: Whether it trains.
        channels_last: Whether weights and images are stored channels last.
        amp: Type of mixed precision; None for none.
        dtype: Type to which network and images are converted; None to leave them as they are.
    """

    def __init__(
        self,
        module: nn.Module,
        device: str = 'cpu',
        training: bool = False,
        channels_last: bool = False,
        amp: torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.device, self.training, self.amp, self.dtype = device, training, amp, dtype
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        # The stubs of `Module.to` lack what it takes.
        self.module = module.train(training).to(device, dtype, memory_format=self.layout)  # type: ignore
        self.forward: Callable = self.module

    def place(self, images: Tensor) -> Tensor:
        """Returns images, (N, C, H, W), as they are stored for a pass."""
        return images.to(self.device, self.dtype).contiguous(memory_format=self.layout)

    def compile(self, batches: Iterable[Tensor]) -> None:
        """Compiles the network for batches, each shape by itself in its first run."""
        self.forward = torch.compile(self.module, dynamic=False)
        with torch._dynamo.config.patch(cache_size_limit=COMPILE_LIMIT):
            for images in batches:
                self(images)

    def __call__(self, images: Tensor, guard: Callable = torch.inference_mode) -> object:
        """Runs it once on what `place` returns; returns the outputs of the forward pass.

        Under `torch.no_grad` as `guard`, all operators can be watched. Training does without.
        """
        outs = self.launch(images, guard)
        synchronize(self.device)
        return outs

    def launch(self, images: Tensor, guard: Callable = torch.inference_mode) -> object:
        """Does what a call does, but on a GPU returns before that is done with it."""
        amp = torch.autocast(self.device, self.amp, enabled=self.amp is not None)
        if self.training:
            self.module.zero_grad(set_to_none=True)
            with amp:
                outs = self.forward(images)
            torch.autograd.backward([out.float().square().mean() for out in tensors_of(outs)])
        else:
            with guard(), amp:
                outs = self.forward(images)
        return outs


def quartiles(values: Sequence[float]) -> tuple[float, ...]:
    """Returns lower quartile, median and upper quartile; all the same of one value."""
    if len(values) == 1:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, n=4, method='inclusive'))


def visit(run: Callable[[], object], at_least: float, trusted: float) -> list[float]:
    """Times a run again until some seconds have passed, and returns those of each run.

    The first run finds the data of others in the caches. It counts if it takes `trusted` seconds or
    more, of which that is a small part.
    """
    first = timed(run)
    seconds = [first] if first >= trusted else []
    while not seconds or sum(seconds) < at_least:
        seconds.append(timed(run))
    return seconds


def median_time(run: Callable[[], object]) -> float:
    """Returns the median of the times of a visit of `VISIT_SECONDS`."""
    return statistics.median(visit(run, VISIT_SECONDS, trusted=10 * VISIT_SECONDS))


def timed(run: Callable[[], object]) -> float:
    """Returns the seconds that a run takes."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def gpu_seconds(launch: Callable[[], object], seconds: float) -> float:
    """Returns the seconds that a GPU works on what a call gives it to do.

    It would wait for the operators of a small batch, one by one, and the events around them would
    count that. So it is kept busy until all of them are in its queue, or as many as that takes
    (about a thousand): of more operators, some waiting may be left.

    Args:
        launch: Gives the GPU something to do, and does not wait until it is done.
        seconds: How long that takes with the waiting.
    """
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(round(min(2 * seconds, MAX_BUSY_SECONDS) * CYCLES_PER_SECOND))
    begin.record()
    launch()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def take_turns(
    name: str,
    candidates: Iterable[Iterator[None]],
    failed: Callable[[int, Exception], None],
    rounds: int = 1,
    deadline: float = -math.inf,
) -> None:
    """Advances candidates once, to prepare them, and then in rounds that visit each of them.

    So what disturbs the machine for a while hits all of them alike.

    Args:
        name: What the lines about the progress begin with.
        candidates: Generators that never end.
        failed: Takes the index of a candidate that raised an error, and the error. The others go on
            unless this raises.
        rounds: As many there are in any case; another one while the time left is at least that of
            the last round.
        deadline: Time of `time.perf_counter` at which the rounds should have ended.
    """
    running = dict(enumerate(candidates))

    def advance() -> None:
        for index, candidate in list(running.items()):
            try:
                next(candidate)
            # Whatever a library or a compiler raises: `failed` decides whether the others go on.
            except Exception as error:
                del running[index]
                failed(index, error)

    advance()
    begin = round_begin = time.perf_counter()
    done, seconds = 0, 0.0
    while running and (done < rounds or round_begin + seconds <= deadline):
        advance()
        done += 1
        seconds = time.perf_counter() - round_begin
        round_begin += seconds
        log(f'{name}: round {done} took {seconds:.0f} s, {round_begin - begin:.0f} s in all')
