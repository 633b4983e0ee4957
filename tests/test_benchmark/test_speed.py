"""The order and the arithmetic of timing, with a clock of its own."""

import functools
import time

import pytest
import torch
from torch import nn

from scopevit.benchmark import speed
from scopevit.benchmark.networks import Network
from scopevit.benchmark.speed import SpeedOptions, Timing, measure_speed
from scopevit.benchmark.timing import Pass, visit
from scopevit.errors import InputError


class Clock:
    """A clock that only the networks move."""

    def __init__(self):
        self.now = 0.0
        self.runs = []

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, 'perf_counter', clock)
    return clock


class Slow(nn.Module):
    """Takes some seconds for each image."""

    def __init__(self, clock, name, seconds):
        super().__init__()
        self.clock, self.name, self.seconds = clock, name, seconds

    def forward(self, images):
        assert torch.is_inference_mode_enabled()
        self.clock.runs.append((self.name, len(images)))
        self.clock.now += self.seconds * len(images)


def networks(clock, **seconds):
    return [
        Network(name, 'here', 'classification', name, (3, 2, 2), Slow(clock, name, value))
        for name, value in seconds.items()
    ]


def options(**changes):
    return SpeedOptions(**dict(dict(batch_sizes=(1, 8), visit_seconds=0.0), **changes))


def test_rounds_go_over_all_networks_and_batch_sizes(clock, capsys):
    pair = networks(clock, a=0.25, b=0.5)
    timings = measure_speed(pair, options(), deadline=18.0)
    one_round = [('a', 1), ('a', 8), ('b', 1), ('b', 8)]
    # To know them: 0.75 s. A round: 0.25 + 2 + 0.5 + 4 = 6.75 s; the third would end at 21 s.
    assert clock.runs == [('a', 1), ('b', 1), *one_round, *one_round]
    assert [timing[8].seconds for timing in timings] == [[2.0, 2.0], [4.0, 4.0]]
    assert [timing[1].seconds for timing in timings] == [[0.25, 0.25], [0.5, 0.5]]
    assert capsys.readouterr().err.splitlines() == [
        'speed: round 1 took 7 s, 7 s in all',
        'speed: round 2 took 7 s, 14 s in all',
    ]


def test_one_round_at_least(clock):
    measure_speed(networks(clock, a=1.0), options(), -5.0)
    # 8 images would take 8 s, 4 take the 4 s that are allowed
    assert clock.runs == [('a', 1), ('a', 1), ('a', 4)]


def test_batch_is_halved_until_it_is_short_enough(clock):
    by_size = measure_speed(networks(clock, a=1.5, b=9.0), options(), -5.0)
    assert by_size[0][8].batch_size == 2
    assert by_size[1][8] is by_size[1][1]
    assert clock.runs == [('a', 1), ('b', 1), ('a', 1), ('a', 2), ('b', 1)]


def test_long_estimates_are_trusted_and_short_ones_measured_again(clock):
    pair = networks(clock, a=2.0, b=0.25)
    measure_speed(pair, options(), -5.0, [2.0, 0.9])
    assert clock.runs == [('b', 1), ('a', 1), ('a', 2), ('b', 1), ('b', 8)]


def test_a_visit_warms_up_and_repeats_what_is_short(clock):
    chosen = options(batch_sizes=(1,), visit_seconds=1.0)
    timings = measure_speed(networks(clock, a=0.25), chosen, -5.0)
    assert len(clock.runs) == 1 + 1 + 4
    assert timings[0][1].seconds == [0.25] * 4


def test_a_visit_counts_its_first_run_only_if_it_is_long(monkeypatch):
    times = iter([0, 9, 10, 10.1, 20, 20.4, 30, 30.2])
    monkeypatch.setattr(time, 'perf_counter', functools.partial(next, times))
    assert visit(lambda: None, 0.5, trusted=5.0) == [9]
    assert visit(lambda: None, 0.5, trusted=5.0) == pytest.approx([0.4, 0.2])
    assert next(times, None) is None


class Breaks(nn.Module):
    """Runs out of memory at some batch size."""

    def __init__(self, too_many):
        super().__init__()
        self.too_many = too_many

    def forward(self, images):
        if len(images) >= self.too_many:
            raise RuntimeError('out of memory')


@pytest.mark.parametrize('too_many', [1, 8])
def test_a_network_that_fails_leaves_the_others(too_many, clock):
    failures = []
    good = networks(clock, a=0.25)
    pair = [Network('bad', 'here', 'classification', 'b', (3, 2, 2), Breaks(too_many)), *good]
    timings = measure_speed(
        pair, options(), 3.0,
        failed=lambda index, error: failures.append((index, str(error))),
    )  # fmt: skip
    reason = 'bad does not run on images of 2x2: RuntimeError: out of memory'
    assert failures == [(0, reason)]
    assert timings[0] == {}
    assert [timing.seconds for timing in timings[1].values()] == [[0.25], [2.0]]
    with pytest.raises(InputError, match=reason):
        measure_speed(pair, options(), 3.0)


class Fills(nn.Module):
    """Fills the memory of a GPU at some batch size."""

    def __init__(self, too_many):
        super().__init__()
        self.too_many = too_many
        self.batches = []

    def forward(self, images):
        self.batches.append(len(images))
        if len(images) >= self.too_many:
            raise torch.OutOfMemoryError('CUDA out of memory')


def test_a_batch_is_halved_until_it_fits_into_the_gpu(clock, monkeypatch):
    """The GPU is made up: the network runs on the CPU."""
    monkeypatch.setattr(
        speed, 'Pass', lambda module, device, **settings: Pass(module, 'cpu', **settings)
    )
    network = Network('n', 'here', 'classification', 'n', (3, 2, 2), Fills(40))
    (by_size,) = measure_speed([network], options(batch_sizes=(1, 64, 256), device='cuda'), -5.0)
    assert {asked: timing.batch_size for asked, timing in by_size.items()} == {
        1: 1,
        64: 32,
        256: 32,
    }
    # Two to start and to know one image, those that look for what fits, and a round.
    assert network.module.batches[2:] == [64, 32, 256, 128, 64, 32, 1, 32]


def test_what_else_fails_on_the_gpu_is_told(clock, monkeypatch):
    monkeypatch.setattr(
        speed, 'Pass', lambda module, device, **settings: Pass(module, 'cpu', **settings)
    )
    network = Network('n', 'here', 'classification', 'n', (3, 2, 2), Breaks(8))
    with pytest.raises(InputError, match='n does not run on images of 2x2: .*out of memory'):
        measure_speed([network], options(device='cuda'), -5.0)


def test_there_is_no_round_without_networks(capsys):
    network = Network('bad', 'here', 'classification', 'b', (3, 2, 2), Breaks(1))
    failed = lambda index, error: None  # noqa: E731
    assert measure_speed([network], options(), 1e9, failed=failed) == [{}]
    assert capsys.readouterr().err == ''


class Convolution(nn.Conv2d):
    """Many networks of one class, as those of the four libraries are to torch.compile."""


def test_compiles_each_network_for_each_batch_size(monkeypatch):
    graphs = []

    def backend(graph, images):
        graphs.append([str(node.meta['example_value'].shape[0]) for node in graph.graph.nodes
                       if node.op == 'call_function'])  # fmt: skip
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend=backend))
    several = [
        Network(str(width), 'here', 'classification', 'n', (3, 4, 4), Convolution(3, width, 1))
        for width in range(1, 7)
    ]
    measure_speed(several, options(compile=True), -5.0)
    # More than the 8 that torch compiles of one function by default, and none for any batch size.
    assert graphs == [['1'], ['8']] * 6


def test_quartiles_and_throughput():
    timing = Timing(4, [5.0, 1.0, 2.0, 4.0, 3.0])
    assert timing.quartiles == (2.0, 3.0, 4.0)
    assert timing.images_per_second == pytest.approx((1.0, 4 / 3, 2.0))
    assert Timing(4, [2.0]).images_per_second == (2.0, 2.0, 2.0)


def test_mixed_precision_and_channels_last_reach_the_network():
    seen = []

    class Looks(nn.Module):
        def forward(self, images):
            seen.append((
                torch.is_autocast_enabled('cpu'),
                images.is_contiguous(memory_format=torch.channels_last),
            ))  # fmt: skip

    network = Network('n', 'here', 'classification', 'n', (3, 4, 4), Looks())
    for amp, channels_last in ((False, False), (True, True)):
        chosen = options(batch_sizes=(1,), amp=amp, channels_last=channels_last)
        measure_speed([network], chosen, 0.0)
    assert set(seen) == {(False, False), (True, True)}
