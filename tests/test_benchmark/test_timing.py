"""What a GPU works on a pass, with a GPU that is made up."""

import pytest
import torch

from scopevit.benchmark.timing import gpu_seconds


class Stream:
    """A queue of work that takes milliseconds, with events in between."""

    def __init__(self):
        self.log = []
        self.now = 0.0

    def work(self, name, milliseconds):
        self.log.append(name)
        self.now += milliseconds

    def event(self, enable_timing):
        assert enable_timing
        return Event(self)


class Event:
    def __init__(self, stream):
        self.stream = stream

    def record(self):
        self.stream.log.append('event')
        self.at = self.stream.now

    def synchronize(self):
        self.stream.log.append('wait')

    def elapsed_time(self, end):
        return end.at - self.at


@pytest.mark.parametrize('seconds, cycles', [(0.01, 4e7), (3.0, 1e9)])
def test_time_of_a_gpu_begins_when_all_is_in_its_queue(monkeypatch, seconds, cycles):
    stream = Stream()
    monkeypatch.setattr(torch.cuda, 'Event', stream.event)
    monkeypatch.setattr(torch.cuda, '_sleep', lambda n: stream.work(f'{n} cycles', 1e3))
    assert gpu_seconds(lambda: stream.work('pass', 7.0), seconds) == pytest.approx(7e-3)
    assert stream.log == [f'{cycles:.0f} cycles', 'event', 'pass', 'event', 'wait']
