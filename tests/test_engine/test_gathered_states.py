"""What several processes put into a checkpoint."""

import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from mmengine.optim import OptimWrapper
from torch import nn

from scopevit.engine.resume import ResumeHook

PROCESSES = 3


def gather(rank: int, folder: Path, taken: int) -> None:
    """Gathers states after some batches of a step of two, and saves which gradients they have."""
    dist.init_process_group('gloo', f'file://{folder}/{taken}', rank=rank, world_size=PROCESSES)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(4, 1).double())
    model[0].to(memory_format=torch.channels_last)
    for i, weight in enumerate(model.parameters()):
        if i < 2 or rank != 1:  # which one process has none of
            weight.grad = torch.full_like(weight, 10 * rank + i)
    model[0].weight.grad[2, 1, 1, 0] = -rank
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1), accumulative_counts=2)
    wrapper._inner_count = taken
    loader = SimpleNamespace(dataset=SimpleNamespace())
    runner: Any = SimpleNamespace(model=model, optim_wrapper=wrapper, train_dataloader=loader)
    hook = ResumeHook()
    hook.gather(runner)
    states = [state.get('gradients') for state in hook.states]
    torch.save(states, folder / f'{taken}_{rank}.pth')
    dist.barrier()


def gathered(folder: Path, taken: int) -> list[list[dict | None]]:
    context = multiprocessing.get_context('fork')  # which has all imported
    processes = [context.Process(target=gather, args=(i, folder, taken)) for i in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [torch.load(folder / f'{taken}_{rank}.pth') for rank in range(PROCESSES)]


def test_the_first_process_alone_gets_the_gradients_of_all(tmp_path: Path) -> None:
    first, *others = gathered(tmp_path, taken=1)
    assert others == [[], []]
    for rank, state in enumerate(first):
        kernel = torch.full((3, 2, 2, 2), 10.0 * rank)
        kernel[2, 1, 1, 0] = -rank
        expected = {'0.weight': kernel, '0.bias': torch.full((3,), 10.0 * rank + 1)}
        if rank != 1:
            expected['1.weight'] = torch.full((1, 4), 10.0 * rank + 2).double()
            expected['1.bias'] = torch.full((1,), 10.0 * rank + 3).double()
        assert state.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(state[name], value, rtol=0, atol=0)


def test_after_a_whole_step_there_are_none(tmp_path: Path) -> None:
    assert gathered(tmp_path, taken=2) == [[None] * PROCESSES, [], []]
